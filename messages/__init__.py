"""What is said: messages, how they cross a wire, and every error that a caller can see."""

from .catalogue import CATALOGUE as CATALOGUE
from .catalogue import Entry as Entry
from .catalogue import entry_of as entry_of
from .errors import *  # noqa: F403 - its __all__ is the whole tree
from .message import Message as Message
from .message import reply_type_of as reply_type_of
from .response import ErrorResponse as ErrorResponse
