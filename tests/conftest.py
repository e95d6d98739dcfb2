"""What all tests have in common."""

from hypothesis import settings

# an example may take as long as it likes: how long says how busy the machine is, not whether the code is right
settings.register_profile("inhouse", deadline=None)
settings.load_profile("inhouse")
