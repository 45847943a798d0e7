"""Lets tools that know only setup.py install the package; everything is said in pyproject.toml."""

from setuptools import setup

setup()
