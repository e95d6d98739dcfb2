import pytest
from inhouse.data.tokenizer import Tokenizer
@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.load("/tmp/exp/tok4096.json")
