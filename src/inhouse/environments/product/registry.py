"""The product suites by name. A new one is a file of its own and its name here."""

from inhouse.environments.product.chat import CHAT
from inhouse.environments.product.code import CODE
from inhouse.environments.product.extraction import EXTRACTION
from inhouse.environments.product.maths import MATHS
from inhouse.environments.product.programs import PROGRAMS
from inhouse.environments.product.sheets import SHEETS
from inhouse.environments.product.slides import SLIDES
from inhouse.environments.product.summaries import SUMMARIES
from inhouse.environments.product.tool_use import TOOL_USE

SUITES = {suite.name: suite for suite in (CHAT, CODE, PROGRAMS, MATHS, SHEETS, SLIDES, SUMMARIES, EXTRACTION, TOOL_USE)}
