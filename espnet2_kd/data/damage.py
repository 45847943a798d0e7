"""What damaged files of weights make their readers raise."""

import pickle
import struct
import zipfile

# torch.load, and the unpickler in it, on bytes that they do not understand.
UNREADABLE = (
    *(OSError, EOFError, RuntimeError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile),
    *(AttributeError, LookupError, OverflowError, TypeError, ValueError),
    MemoryError,  # of a length that damage made up
)
