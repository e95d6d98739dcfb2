"""/tokenize, /detokenize and /tokenizer_info, as lm_eval's remote tokenizer uses them."""

NAME = "tiny"
CONTEXT = 128
MESSAGES = [{"role": "user", "content": "hi"}]


def test_tokenize_and_back(server, tokenizer):
    text = "def f(x): return '谢谢 🙂'"
    body = server.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()
    assert body == {"tokens": tokenizer.encode(text), "count": len(tokenizer.encode(text)), "max_model_len": CONTEXT}
    assert server.post("/detokenize", {"tokens": body["tokens"]}).json() == {"prompt": text}


def test_the_info_is_what_a_remote_tokenizer_needs(server, tokenizer):
    info = server.get("/tokenizer_info").json()
    eos = server.post("/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False}).json()["tokens"]
    assert eos == [tokenizer.end_of_turn]
    assert "<|im_start|>" in info["chat_template"]


def test_a_base_model_ends_at_the_end_of_a_text(run_server):
    with run_server(chat_template=None) as server:
        info = server.get("/tokenizer_info").json()
    assert (info["eos_token"], info["chat_template"]) == ("<|endoftext|>", None)


def test_messages_are_what_a_chat_sends(server, client):
    count = server.post("/tokenize", {"messages": MESSAGES}).json()["count"]
    answer = client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=1)
    assert answer.usage.prompt_tokens == count


def test_one_of_both_is_needed(server):
    for body in ({}, {"prompt": "a", "messages": MESSAGES}):
        assert server.post("/tokenize", body).status_code == 400
    assert server.post("/detokenize", {"tokens": [10**9]}).status_code == 400
