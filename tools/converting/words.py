"""Tokenizer and chat templates of original folders."""

import json

from .tensors import Failed

# What the templates share: the words and pictures of a turn. LLaVA's own code puts pictures first, each on a line.
TURN = (
    "{%- macro said(turn) -%}{%- if turn['content'] is string -%}{{ turn['content'] }}{%- else -%}"
    "{%- for part in turn['content'] if part['type'] == 'image' -%}{{ '<image>\\n' }}{%- endfor -%}"
    "{%- for part in turn['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}"
    "{%- endif -%}{%- endmacro -%}"
)
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
LLAMA_3 = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)


def template(begin, system, user, assistant, answer, default):
    """Each of the four is text around `%s`; `default` is the system's text if there is none, `begin` stands first."""

    def around(pattern, words):
        before, after = pattern.split("%s")
        return "".join(("{{ %s }}" % json.dumps(before), words, "{{ %s }}" % json.dumps(after)))

    said = "{{ said(turn) }}"
    parts = [TURN, begin]
    if default is not None:
        text = json.dumps(system.replace("%s", default))
        parts.append("{%- if messages[0]['role'] != 'system' -%}{{ " + text + " }}{%- endif -%}")
    parts += ["{%- for turn in messages -%}", "{%- if turn['role'] == 'system' -%}", around(system, said)]
    parts += ["{%- elif turn['role'] == 'user' -%}", around(user, said)]
    parts += ["{%- else -%}", around(assistant, said), "{%- endif -%}{%- endfor -%}"]
    parts += ["{%- if add_generation_prompt -%}{{ " + json.dumps(answer) + " }}{%- endif -%}"]
    return "".join(parts)


def templates():
    chatml = ("<|im_start|>system\n%s<|im_end|>", "<|im_start|>user\n%s<|im_end|>")
    chatml += ("<|im_start|>assistant\n%s<|im_end|>", "<|im_start|>assistant\n")
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    turn = lambda role: head.format(role) + "%s<|eot_id|>"
    llama3 = (turn("system"), turn("user"), turn("assistant"), head.format("assistant"))
    return {
        "vicuna": template("", "%s ", "USER: %s ", "ASSISTANT: %s</s>", "ASSISTANT:", VICUNA),
        "phi": template("", "%s ", "USER: %s ", "ASSISTANT: %s<|endoftext|>", "ASSISTANT:", VICUNA),
        "mistral": template("", "%s\n", "[INST] %s [/INST]", " %s</s>", "", None),
        "chatml": template("", *chatml, "Answer the questions."),
        "llama3": template("", *llama3, LLAMA_3),
    }


def default_chat(folder, original):
    """Which template a folder was trained with, as LLaVA's own code guesses by the name."""
    name = " ".join([folder.name, str(original.config.get("_name_or_path", ""))]).lower()
    if "34b" in name or "yi" in name.split("-"):
        return "chatml"
    if "llama3" in name or "llama-3" in name:
        return "llama3"
    return original.decoder if original.decoder in ("mistral", "phi") else "vicuna"


def tokenizer(folder, other):
    """tokenizer.json without the words that the conversion adds, and how many words it has."""
    for place in [other, folder]:
        if place and (place / "tokenizer.json").exists():
            text = json.loads((place / "tokenizer.json").read_text(encoding="utf-8"))
            break
    else:
        text = from_sentencepiece(other or folder)
    added = {"<image>", "<pad>"}
    text["added_tokens"] = [t for t in text["added_tokens"] if t["content"] not in added]
    words = list(text["model"]["vocab"].values()) + [t["id"] for t in text["added_tokens"]]
    return text, max(words) + 1


def from_sentencepiece(folder):
    if not (folder / "tokenizer.model").exists():
        raise Failed(f"{folder}: there is neither tokenizer.json nor tokenizer.model (--tokenizer DIR names another folder)")
    way = "give a folder with its tokenizer.json as --tokenizer, such as that of the converted model on the hub"
    try:
        from transformers import LlamaTokenizerFast
    except ImportError:
        raise Failed(f"{folder} has tokenizer.model only: {way}, or install transformers and sentencepiece") from None
    try:
        made = LlamaTokenizerFast.from_pretrained(folder)
    except Exception as error:  # what a missing package or a damaged file brings about
        raise Failed(f"{folder}/tokenizer.model: {' '.join(str(error).split())[:200]}: {way}") from None
    return json.loads(made.backend_tokenizer.to_str())


def with_images(text, vocabulary):
    """The tokenizer with the tokens of images and padding."""
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    for number, word in enumerate(("<image>", "<pad>")):
        text["added_tokens"].append({"id": vocabulary + number, "content": word, **flags})
    return text
