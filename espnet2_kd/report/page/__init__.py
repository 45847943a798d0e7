"""The report as one web page, which needs no network: tables, charts, learning curves, utterances to hear, errors, costs."""
