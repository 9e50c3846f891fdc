"""Makes the tokenizers and the expectations of `io/tests/local_tokenizer`.

What a template renders and how a text is tokenized comes from Hugging Face's own libraries; what an engine hands to
the template is written down here once more, from what vLLM does. Nothing of it is shared with the code under test.

    python3 -m venv venv && venv/bin/pip install transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6
    venv/bin/python generate.py            # tokenizers, rendered.json, tokens.json, expressions.json

Not run in CI: the outputs are committed. The tokenizers are trained on text that is made up here, by a seed.
"""

import copy
import gzip
import json
import random
import string
import sys
from pathlib import Path

import jinja2.nodes as nodes
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = Path(__file__).parent
SPECIAL = ["<|begin|>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|eot|>", "<|user|>", "<|assistant|>"]

# ---------------------------------------------------------------- text


def sentences(seed, count):
    rng = random.Random(seed)
    syllables = [c + v for c in "b d f g k l m n p r s t v z th sh tr st".split() for v in "a e i o u ai ou".split()]
    words = ["".join(rng.choices(syllables, k=rng.choice((1, 1, 2, 2, 2, 3)))) for _ in range(1500)]
    words += "the of and a to in is you that it he was for on are as with his they I at be this have from".split() * 20
    words += "naïve café straße Ünal über señor 東京 大阪 日本語 Привет мир καλημέρα مرحبا שלום 한국어 👍 🎉".split() * 3
    code = ["def f(x):\n    return x + 1\n", 'if (a == b) { call(c, "d"); }\n', "for i in range(10):\n\tprint(i)\n", '{"name": "get", "arguments": {"x": 1}}\n']
    for _ in range(count):
        if rng.random() < 0.12:
            yield rng.choice(code)
            continue
        line = " ".join(rng.choices(words, k=rng.randint(3, 16)))
        if rng.random() < 0.3:
            line += " " + str(rng.randint(0, 99999))
        yield line.capitalize() + rng.choice(".!?,;:") + rng.choice((" ", "\n", "  ", "\n\n"))


def bytelevel():
    """Like most of today's: a pattern splits the text, then byte-level BPE."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(sentences(1, 6000), trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("<tool_call>", normalized=False)])
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing("<|begin|> $A", "<|begin|> $A <|begin|> $B", [("<|begin|>", begin)]),
        ]
    )
    return tokenizer, {"bos_token": "<|begin|>", "eos_token": "<|im_end|>"}


def metaspace():
    """Like those that came from SentencePiece: ▁ for blanks, bytes for what is not in the vocabulary."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = tokenizer.normalizer
    trained.pre_tokenizer = pre_tokenizers.Split(Regex(r"▁*[^▁]+|▁+"), "isolated")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{n:02X}>" for n in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=2200, special_tokens=special, limit_alphabet=120, show_progress=False)
    trained.train_from_iterator(sentences(2, 6000), trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer.model = models.BPE(model["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.add_special_tokens([AddedToken("[INST]", special=True, rstrip=True), AddedToken("[/INST]", special=True, lstrip=True)])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


# ---------------------------------------------------------------- what the engine hands to the template


def content_format(template):
    tree = _compile_jinja_template(template).environment.parse(template)

    def is_var(node, name):
        return isinstance(node, nodes.Name) and node.ctx == "load" and node.name == name

    def is_attr(node, name, key):
        if isinstance(node, nodes.Getitem):
            return is_var(node.node, name) and isinstance(node.arg, nodes.Const) and node.arg.value == key
        return isinstance(node, nodes.Getattr) and is_var(node.node, name) and node.attr == key

    def reaches(node, name, key=None):
        if isinstance(node, nodes.Filter):
            return node.node is not None and reaches(node.node, name, key)
        if isinstance(node, nodes.Test):
            return reaches(node.node, name, key)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            return reaches(node.node, name, key)
        return is_attr(node, name, key) if key else is_var(node, name)

    try:
        names = ["messages"]
        for name in names:
            for assign in tree.find_all(nodes.Assign):
                if reaches(assign.node, name):
                    assert isinstance(assign.target, nodes.Name)
                    if assign.target.name not in names:
                        names.append(assign.target.name)
        items = []
        for loop in tree.find_all(nodes.For):
            if any(reaches(loop.iter, name) for name in names):
                assert isinstance(loop.target, nodes.Name)
                items.append(loop.target.name)
        for loop in tree.find_all(nodes.For):
            if any(reaches(loop.iter, item, "content") for item in items):
                assert isinstance(loop.target, nodes.Name)
                return "parts"
    except AssertionError:
        pass
    return "text"


def conversation(messages, form):
    result = []
    for message in messages:
        content = message.get("content")
        parts = [] if content is None else [{"type": "text", "text": content}] if isinstance(content, str) else content
        if any(part["type"] != "text" for part in parts):
            raise ValueError("not text alone")
        texts = [part["text"] for part in parts]
        seen = {"role": message["role"]}
        if form == "parts":
            seen["content"] = [{"type": "text", "text": text} for text in texts]
        else:
            seen["content"] = "\n".join(text for text in texts if text)
        if message["role"] == "assistant" and message.get("tool_calls") is not None:
            calls = copy.deepcopy(message["tool_calls"])
            for call in calls:
                arguments = call["function"].get("arguments")
                call["function"]["arguments"] = json.loads(arguments) if arguments else {}
            seen["tool_calls"] = calls
        if message["role"] == "assistant" and message.get("reasoning") is not None:
            seen["reasoning"] = seen["reasoning_content"] = message["reasoning"]
        if message["role"] == "tool" and "tool_call_id" in message:
            seen["tool_call_id"] = message["tool_call_id"]
            if isinstance(seen["content"], list):
                seen["content"] = "\n".join(texts)
        if isinstance(message.get("name"), str):
            seen["name"] = message["name"]
        result.append(seen)
    return result


def tool_of(tool):
    function = tool["function"]
    known = {"name": function["name"], "description": function.get("description"), "parameters": function.get("parameters")}
    extra = {key: value for key, value in function.items() if key not in known}
    more = {key: value for key, value in tool.items() if key not in ("type", "function")}
    return {"type": tool.get("type", "function"), "function": {**known, **extra}, **more}


def render(tokenizer, template, body):
    arguments = dict(body.get("chat_template_kwargs") or {})
    arguments["add_generation_prompt"] = body.get("add_generation_prompt", True)
    arguments["continue_final_message"] = body.get("continue_final_message", False)
    tools = body.get("tools")
    return tokenizer.apply_chat_template(
        conversation(body["messages"], content_format(template)),
        tools=None if tools is None else [tool_of(tool) for tool in tools],
        chat_template=template,
        tokenize=False,
        **arguments,
    )


# ---------------------------------------------------------------- bodies


def bodies():
    user = lambda text, **more: {"role": "user", "content": text, **more}
    assistant = lambda text, **more: {"role": "assistant", "content": text, **more}
    system = lambda text: {"role": "system", "content": text}
    call = lambda name, arguments, id="call_1": {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    tool = lambda text, id="call_1": {"role": "tool", "tool_call_id": id, "content": text}
    weather = {
        "type": "function",
        "function": {
            "parameters": {"type": "object", "properties": {"zone": {"type": "string", "enum": ["a", "b"]}, "city": {"type": "string", "description": "Größe & <name> 'it'"}}, "required": ["city"]},
            "description": "Says how it's outside in \"a city\"\n",
            "name": "weather",
        },
    }
    bare = {"type": "function", "function": {"name": "now"}}
    numbers = {"type": "function", "function": {"name": "n", "parameters": {"type": "object", "properties": {"x": {"type": "number", "default": 1.5, "minimum": -3, "maximum": 100000, "exclusiveMaximum": True, "examples": [0.25, 1e3, 12345678.5, None, [], {}]}}}}}
    long = "".join(sentences(3, 400))
    texts = [
        "Hello", " leading and trailing  ", "\n\nlines\n\n\n", "\ttabs\t\u00a0\u2003\u3000nbsp\u200b", "",
        "naïve café 東京 Привет 👍🏽 e\u0301 \u0130 ß ﬁ", "<s>not a token</s> <|im_start|>system\n<|im_end|>[INST] x [/INST] <think> </think><|begin|>",
        "a\r\nb\rc\x0bd\x1ce\u2028f", "{{ messages }} {% raw %} {# no #}", "it's \"quoted\" \\ back \x07\x7f", "x" * 300, "   " * 40 + "deep", "123456789 3.14 1e10 0x1F", "�\ufffe\U0001F468\u200d\U0001F469",
    ]
    turns = [user("What is it?"), assistant("It is this."), user("And that?")]
    out = []
    add = lambda name, **body: out.append((name, body))
    for n, text in enumerate(texts):
        add(f"text {n}", messages=[user(text)])
    add("system", messages=[system(" Be kind. "), user("Hi")])
    add("turns", messages=turns)
    add("turns after system", messages=[system("Be kind."), *turns])
    add("two systems", messages=[system("One."), system("Two."), user("Hi")])
    add("late system", messages=[user("Hi"), system("Now be kind."), user("Ok?")])
    add("two users", messages=[user("Hi"), user("Hello?")])
    add("assistant first", messages=[assistant("Yes?"), user("Hi")])
    add("assistant last", messages=[user("Hi"), assistant("Well,")])
    add("no generation", messages=turns, add_generation_prompt=False)
    add("going on", messages=[user("Count"), assistant("1, 2,")], add_generation_prompt=False, continue_final_message=True)
    add("going on after a blank", messages=[user("Count"), assistant("1, 2, ")], add_generation_prompt=False, continue_final_message=True)
    add("going on twice", messages=[user("Count"), assistant("1, 2,")], continue_final_message=True)
    add("special", messages=turns, add_special_tokens=True)
    add("parts", messages=[user([{"type": "text", "text": "One."}, {"type": "text", "text": " Two. "}])])
    add("parts with nothing", messages=[user([{"type": "text", "text": ""}, {"type": "text", "text": "x"}])])
    add("no parts", messages=[user([])])
    add("image", messages=[user([{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}])])
    add("nothing", messages=[user("Hi"), assistant(None), user("Hello?")])
    add("names", messages=[user("Hi", name="Ann"), assistant("Hi", name="Bob")])
    add("thoughts", messages=[user("Hi"), assistant("<think>\nhm\n</think>\n\nHello"), user("More")])
    add("thoughts last", messages=[user("Hi"), assistant("<think>\nhm\n</think>\n\nHello")], add_generation_prompt=False)
    add("no thinking", messages=turns, chat_template_kwargs={"enable_thinking": False})
    add("thinking", messages=turns, chat_template_kwargs={"enable_thinking": True, "unused": [1, {"a": None}]})
    add("date", messages=turns, chat_template_kwargs={"date_string": "3 März"})
    add("reserved", messages=turns, chat_template_kwargs={"bos_token": "<x>"})
    add("documents", messages=turns, chat_template_kwargs={"documents": [{"title": "T", "text": "x"}]})
    add("loops", messages=turns, chat_template_kwargs={"loop_of": "l"})
    add("tools", messages=[user("Warm?")], tools=[weather])
    add("tools, system", messages=[system("Be kind."), user("Warm?")], tools=[weather, bare])
    add("tools, numbers", messages=[user("Warm?")], tools=[numbers])
    add("tools, elsewhere", messages=turns, tools=[weather, numbers], chat_template_kwargs={"tools_in_user_message": False})
    add("no tools", messages=turns, tools=[])
    add("strict tool", messages=turns, tools=[{"type": "function", "function": {**weather["function"], "strict": True}}])
    talk = [user("Warm?"), assistant(None, tool_calls=[call("weather", '{"city": "Zürich", "days": 2, "deep": {"b": [1.5, null, true], "a": "<&>\'"}}')]), tool("21°\n")]
    add("call", messages=talk, tools=[weather])
    add("call, answered", messages=[*talk, assistant("It is."), user("Thanks")], tools=[weather, bare])
    add("call, more", messages=[*talk, user("And \"there\"?")])
    add("two calls", messages=[user("Warm?"), assistant("Both.", tool_calls=[call("weather", '{"city":"A"}'), call("now", "", "call_2")]), tool("1"), tool("2", "call_2"), assistant("Yes")], tools=[weather, bare])
    add("parts of a tool", messages=[*talk[:2], {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])
    add("no calls", messages=[user("Hi"), assistant("Hello", tool_calls=[]), user("So")])
    add("calls are none", messages=[user("Hi"), assistant("Hello", tool_calls=None), user("So")])
    add("bad arguments", messages=[user("Hi"), assistant("", tool_calls=[call("now", "{oops")]), user("So")])
    add("reasoning", messages=[user("Hi"), assistant("Hello", reasoning="hm"), user("So")])
    add("beside", messages=turns, model="m", temperature=0.3, stream=True, max_tokens=7, stop=["\n"], user="u", seed=1, response_format={"type": "json_object"})
    add("long", messages=[system(long[:3000]), user(long), assistant(long[:500]), user("So?")])
    many = [user(f"q{n} {text}") if n % 2 == 0 else assistant(f"a{n} {text}") for n, text in enumerate((texts * 4)[:41])]
    add("many", messages=many)
    return out, texts, long


def folder(name, tokenizer, special):
    path = HERE / name
    path.mkdir(exist_ok=True)
    document = json.loads(tokenizer.to_str())
    (path / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
    config = {**special, "added_tokens_decoder": {}, "clean_up_tokenization_spaces": False, "model_max_length": 4096, "tokenizer_class": "PreTrainedTokenizerFast"}
    (path / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n")
    return PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"), **special)


def strings(rng, texts):
    """Strings of all kinds, of each length."""
    kinds = [string.ascii_lowercase + "   ", string.printable, "".join(map(chr, range(0xA0, 0x250))), " \n\t\r", string.digits + ".,", "東京大阪日本語한국어", "👍🏽🎉‍️é\u0301\u200d", "<|im_start|><s></s>[INST]"]
    for n in range(150):
        length = rng.choice((1, 2, 3, 5, 8, 13, 40, 120))
        yield "".join(rng.choice(rng.choice(kinds)) for _ in range(length))
    for n in range(60):
        yield "".join(rng.choice(texts + SPECIAL + ["[INST]", "[/INST]", "</s>", " ", "\n"]) for _ in range(rng.randint(1, 6)))


def main():
    made = {"bytelevel": bytelevel(), "metaspace": metaspace()}
    tokenizers = {name: folder(name, *both) for name, both in made.items()}
    table, texts, long = bodies()
    templates = {path.stem: path.read_text() for path in sorted((HERE / "templates").glob("*.jinja"))}
    rendered = []
    for name, body in table:
        results = {}
        for of, template in templates.items():
            for by, tokenizer in tokenizers.items():
                try:
                    text = render(tokenizer, template, body) if of != "today" else None
                except Exception as error:
                    print(f"{of} / {name}: {type(error).__name__} {str(error)[:90]!r}", file=sys.stderr)
                    text = None
                special = body.get("add_special_tokens", False)
                ids = None if text is None else tokenizer.encode(text, add_special_tokens=special)
                results.setdefault(of, {})[by] = None if text is None else [text, ids]
        rendered.append({"name": name, "body": body, "results": results})
    with gzip.GzipFile(HERE / "rendered.json.gz", "wb", mtime=0) as file:
        file.write(json.dumps({"formats": {n: content_format(t) for n, t in templates.items()}, "cases": rendered}).encode())
    rows = []
    for text in [*texts, long, *strings(random.Random(4), texts)]:
        row = {"text": text}
        for by, tokenizer in tokenizers.items():
            row[by] = [tokenizer.encode(text, add_special_tokens=special) for special in (False, True)]
        rows.append(row)
    with gzip.GzipFile(HERE / "tokens.json.gz", "wb", mtime=0) as file:
        file.write(json.dumps(rows).encode())


if __name__ == "__main__":
    main()
