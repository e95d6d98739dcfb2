"""Many processes that train one model: how they are arranged, and how the model is spread over them."""
