"""Makes golden.json and the small tokenizers beside it: what transformers does with prompts and ids.

    python3 -m venv venv && venv/bin/pip install transformers==5.23.0 jinja2==3.1.6
    cargo test --test text -- --ignored write_synth_tokenizer     # synth.json, when src/text/synth.rs has changed
    venv/bin/python tests/text/make_golden.py

Everything is deterministic. Templates are of our own wording; three give the prompts of the LLaVA families, the
others use what templates in the wild use.
"""

import json
import random
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent
TEXTS = [
    "USER: <image>\nWhat is shown in this image? ASSISTANT:",
    "[INST] <image>\nDescribe the two pictures. [/INST]",
    "", " ", "  ", "\n", "\n\n", "a", " a", "a ", "▁", "The  number\tof\r\nthings", "<image>", "<image><image>",
    "x<image>y", "<s>", "</s><s> x </s>", "<unk>", "<pad>", "naïve café — 東京タワー 🗼🏽", "e\u0301", "\u200b\ufeff",
    "<0x0A>", "<ima ge>", "0123456789", "ÿ\u0080\u07ff\uffff\U0010ffff", "it's don't I'm we've", "▁a▁ b", "</s",
]
BASE_SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def corpus():
    words = "the picture shows a red house and two small trees near an old street with one black car".split()
    rng = random.Random(1)
    return [" ".join(rng.choices(words, k=12)) + "." for _ in range(300)]


def metaspace():
    """The newer conversion of LLaMA: Metaspace only at the very start of a text."""
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"] + bytes_, show_progress=False))
    made = json.loads(t.to_str())
    # Byte tokens belong to the vocabulary but are not special.
    made["added_tokens"] = [a for a in made["added_tokens"] if a["id"] < 3]
    t = Tokenizer.from_str(json.dumps(made))
    t.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    t.add_special_tokens(["<image>"])
    return t


def metaspace_decoder():
    t = metaspace()
    t.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return t


def bytelevel():
    """The kind of LLaMA-3: every token is a string of bytes."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens(["<image>"])
    return t


def wordpiece():
    t = Tokenizer(models.WordPiece(unk_token="<unk>"))
    t.normalizer = normalizers.Lowercase()
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.decoder = decoders.WordPiece(cleanup=False)
    t.train_from_iterator(corpus() + ["it's don't . , ?"], trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    t.add_special_tokens(["<image>"])
    return t


# Name: tokenizer file, tokenizer_config.json, special_tokens_map.json.
FOLDERS = {
    "synth": ("synth.json", BASE_SPECIALS, None),
    "synth, no config": ("synth.json", None, None),
    "synth, real-looking config": ("synth.json", {
        **BASE_SPECIALS, "add_bos_token": True, "add_eos_token": False, "legacy": False, "pad_token": "<pad>",
        "tokenizer_class": "LlamaTokenizer", "padding_side": "left", "model_max_length": 1000000000000000019884624838656,
        "clean_up_tokenization_spaces": False, "extra_special_tokens": {"image_token": "<image>"}, "image_token": "<image>",
        "added_tokens_decoder": {"1": {"content": "<s>", "lstrip": False, "normalized": False, "rstrip": False,
                                       "single_word": False, "special": True}}}, None),
    "synth, no BOS": ("synth.json", {**BASE_SPECIALS, "add_bos_token": False}, None),
    "synth, BOS and EOS": ("synth.json", {**BASE_SPECIALS, "add_bos_token": True, "add_eos_token": True}, None),
    "synth, tokens as objects": ("synth.json", {
        "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": True, "rstrip": False,
                      "single_word": False}, "eos_token": "</s>", "unk_token": None}, None),
    "synth, legacy map": ("synth.json", {"eos_token": "</s>"}, {
        "bos_token": {"content": "<s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
        "additional_special_tokens": ["▁What"]}),
    "synth, more tokens": ("synth.json", {
        **BASE_SPECIALS, "pad_token": "[new]", "extra_special_tokens": ["▁the"],
        "added_tokens_decoder": {"900": {"content": "ture", "lstrip": False, "normalized": True, "rstrip": True,
                                         "single_word": False, "special": False}}}, None),
    "synth, clean-up is ignored": ("synth.json", {**BASE_SPECIALS, "clean_up_tokenization_spaces": True}, None),
    "synth, clean-up is forced": ("synth.json", {
        **BASE_SPECIALS, "clean_up_tokenization_spaces": True,
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True}, None),
    "metaspace": ("metaspace.json", BASE_SPECIALS, None),
    "metaspace decoder": ("metaspace-decoder.json", BASE_SPECIALS, None),
    "bytelevel": ("bytelevel.json", {"bos_token": "<s>", "eos_token": "</s>"}, None),
    "wordpiece": ("wordpiece.json", BASE_SPECIALS, None),
    "wordpiece, clean-up": ("wordpiece.json", {**BASE_SPECIALS, "clean_up_tokenization_spaces": True}, None),
}


def tokenizer_case(name):
    file, config, special_map = FOLDERS[name]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "config.json").write_text('{"model_type": "llava_next"}')
        (folder / "tokenizer.json").write_text((HERE / file).read_text())
        if config is not None:
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
        if special_map is not None:
            (folder / "special_tokens_map.json").write_text(json.dumps(special_map))
        t = AutoTokenizer.from_pretrained(folder)
    assert type(t).__name__ == "TokenizersBackend"
    rng = random.Random(name)
    texts = []
    for text in TEXTS:
        ids = t.encode(text, add_special_tokens=True)
        texts.append({"text": text, "ids": ids, "plain": t.encode(text, add_special_tokens=False),
                      "decoded": t.decode(ids, skip_special_tokens=True)})
    decoded = []
    for i in range(40):
        ids = [rng.randrange(len(t) + 4) if rng.random() < 0.5 else rng.randrange(min(len(t), 262))
               for _ in range(rng.randrange(14))]
        decoded.append({"ids": ids, "text": t.decode(ids, skip_special_tokens=True)})
    return {"name": name, "file": file, "config": config, "map": special_map, "size": len(t), "bos": t.bos_token,
            "variables": t.special_tokens_map, "texts": texts, "decoded": decoded}


VICUNA = """\
{%- for turn in messages -%}
{%- if turn['role'] == 'system' -%}
{{ turn['content'][0]['text'] }}
{%- else -%}
{{ turn['role'].upper() + ': ' }}
{#- every picture comes first -#}
{%- for part in turn['content'] | selectattr('type', 'equalto', 'image') -%}
{{ '<image>\\n' }}
{%- endfor -%}
{%- if turn['role'] != 'assistant' -%}
{%- for part in turn['content'] | selectattr('type', 'equalto', 'text') -%}
{{ part['text'] + ' ' }}
{%- endfor -%}
{%- else -%}
{%- for part in turn['content'] | selectattr('type', 'equalto', 'text') -%}
{% generation %}{{ part['text'] + ' ' }}{% endgeneration %}
{%- endfor -%}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ 'ASSISTANT:' }}
{%- endif -%}
"""
MISTRAL = """\
{% for turn in messages %}
{% if turn.role == 'user' %}
{{ '[INST] ' }}{% for part in turn.content if part.type == 'image' %}{{ '<image>\n' }}{% endfor %}
{% for part in turn.content if part.type == 'text' %}{{ part.text }}{% endfor %}
{{ ' [/INST]' }}
{%- elif turn.role == 'assistant' %}
{{ ' ' + turn.content[0].text + '</s> ' }}
{%- elif turn.role == 'system' %}
{{ '<<SYS>>\n' + turn.content[0].text + '\n<</SYS>>\n\n' }}
{%- else %}
{{ raise_exception('roles are user, assistant and system') }}
{%- endif %}
{% endfor %}
"""
TEMPLATES = {
    "vicuna": VICUNA,
    "mistral": MISTRAL,
    "one line": "{% for m in messages %}{{ m.role.upper() }}: {% for c in m.content %}{% if c.type == 'image' %}<image>\n"
                "{% else %}{{ c.text }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "bos": "{{ bos_token }}{{ messages[0]['content'][-1]['text'] }}{{ eos_token }}",
    "undefined token": "[{{ pad_token }}]",
    "token or nothing": "{{ sep_token if sep_token is defined else 'none' }}|{{ tools is none }}|{{ documents is defined }}",
    "namespace": "{% set ns = namespace(found=false, n=0) %}{% for c in messages[0].content %}{% if c.type == 'image' %}"
                 "{% set ns.found = true %}{% endif %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.found }} {{ ns.n }}",
    "loop": "{% for c in messages[0].content %}{{ loop.index }}/{{ loop.length }}{% if loop.first %}<{% endif %}"
            "{% if not loop.last %},{% endif %}{{ loop.index0 }}{{ loop.revindex }}{% endfor %}",
    "slices": "{{ messages[1:] | length }}{{ messages[:1] | length }}{{ messages[0].content[::-1][0].type }}"
              "{{ messages[-1].role }}{{ 'abcdef'[1:-1] }}{{ 'abcdef'[::2] }}",
    "string methods": "{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ ' a'.lstrip() }}|{{ 'a '.rstrip() }}|{{ 'a,b'.split(',') }}|"
                      "{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'c')) }}|{{ 'abc'.replace('b', '-') }}|{{ 'aBc'.title() }}|"
                      "{{ 'a b c'.split(' ', 1) }}|{{ 'a</think>b'.split('</think>')[-1] }}|{{ 'abc'.find('c') }}|{{ ', '.join(['a', 'b']) }}|"
                      "{{ 'x'.capitalize() }}|{{ 'AB'.lower() }}|{{ 'a\nb'.splitlines() }}",
    "dict methods": "{% set m = messages[0] %}{{ m.get('role') }}|{{ m.get('name') }}|{{ m.get('name', 'x') }}|"
                    "{% for k, v in m.items() %}{{ k }} {% endfor %}|{{ m.keys() | list }}|{{ 'role' in m }}|{{ 'x' not in m }}",
    "tests": "{% set m = messages[0] %}{{ m.content is string }}{{ m.content is iterable }}{{ m is mapping }}{{ m.x is defined }}"
             "{{ m.x is undefined }}{{ none is none }}{{ 1 is number }}{{ m.content is sequence }}{{ 3 is odd }}{{ 'a' is string }}"
             "{{ true is boolean }}{{ 1 is integer }}{{ m.role is eq 'user' }}{{ m.role is in ['user'] }}",
    "filters": "{{ [3, 1, 2] | sort }}|{{ 'x' | upper }}|{{ [1, 2] | first }}|{{ [1, 2] | last }}|{{ ['a', 'b'] | join('-') }}|"
               "{{ ' x ' | trim }}|{{ missing | default('d') }}|{{ messages[0].content | map(attribute='type') | join(' ') }}|"
               "{{ messages[0].content | rejectattr('type', 'equalto', 'image') | list | length }}|{{ 'abc' | length }}|"
               "{{ {'b': 1, 'a': 2} | items | list }}|{{ {'b': 1, 'a': 2} | dictsort }}|{{ 'a b' | replace(' ', '_') }}|{{ [1, [2]] | string }}|"
               "{{ '7' | int + 1 }}|{{ [1, 2, 3] | select('odd') | list }}|{{ ['a', 'a'] | unique | list }}|{{ 'x' | indent(2, true) }}",
    "tojson": "{{ messages | tojson }}|{{ {'b': [1, 2.5, true, none], 'a': {}} | tojson(indent=2) }}|"
              "{{ {'b': 1, 'a': '<é\\n\"\\t>'} | tojson(sort_keys=true, ensure_ascii=true) }}|{{ [1, 2] | tojson(separators=(',', ':')) }}|{{ [] | tojson(indent=4) }}",
    "python literals": "{{ none }} {{ true }} {{ false }} {{ [1, 'a', none] }} {{ {'k': (1, 2)} }} {{ 1.0 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 7 % 3 }}"
                       " {{ 'a' ~ 1 ~ true ~ none }} {{ None }} {{ True }}",
    "content as text": "{{ messages[0].content }}",
    "content concatenated": "{{ 'USER: ' + messages[0].content }}",
    "content stripped": "{{ messages[0].content.strip() }}",
    "generation whitespace": "a\n  {%- generation -%}\n  b\n  {%- endgeneration %}\n  c\n  {% generation %}\n  d\n  {% endgeneration %}\n  e",
    "generation scope": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}"
                        "{% for i in [7] %}{% generation %}{{ i }}{{ loop.first }}{% endgeneration %}{% endfor %}",
    "generation is text elsewhere": "{{ '{% generation %}' }}{# {% generation %} #}{% raw %}{% generation %}{% endraw %}",
    "whitespace": "  {% if true %}\n  a\n  {% endif %}\n{{ 'b' }}\n  {# note #}\n\tc\n  {%+ if true %}d{% endif %}\n\n{%- if true -%}  e  {%- endif -%}\n f\n",
    "loop controls": "{% for c in [1, 2, 3, 4] %}{% if c == 2 %}{% continue %}{% endif %}{% if c == 4 %}{% break %}{% endif %}{{ c }}{% endfor %}",
    "macro": "{% macro part(c, sep='/') %}{{ c.type }}{{ sep }}{% endmacro %}{% for c in messages[0].content %}{{ part(c) }}{{ part(c, sep='-') }}{% endfor %}",
    "set block": "{% set x %}a{{ 1 }}b{% endset %}{{ x }}{{ x | length }}",
    "conditional loop": "{% for c in messages[0].content if c.type == 'video' %}x{% else %}none{% endfor %}",
    "inline if": "{{ 'a' if messages | length > 1 else 'b' }}{{ 'x' if false }}{{ 'no' and 'yes' }}{{ '' or 'z' }}{{ not '' }}",
    "alternation": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
                   "{% endif %}{% endfor %}ok",
    "system shift": "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ rest | length }}",
    "tools": "{% if tools %}{{ tools | tojson }}{% endif %}{% if tools is not none and tools | length > 0 %}x{% endif %}no tools",
    "date": "{{ strftime_now('%d') | length }}{{ strftime_now('%Y-%m-%d') | length }}",
    "comparison": "{{ 1 < 2 <= 2 }}{{ 'a' < 'b' }}{{ [1] == [1] }}{{ (1, 2) == (1, 2) }}{{ 1 == 1.0 }}{{ 'a' * 3 }}{{ [0] * 2 }}{{ [1] + [2] }}",
    "unpacking": "{% for a, b in [[1, 2], [3, 4]] %}{{ a }}{{ b }}{% endfor %}{% set p, q = 1, 2 %}{{ p }}{{ q }}",
    "escapes": "{{ '\\n\\t\\\\\\'' }}{{ \"\\\"\" }}{{ '<&>' }}",
    "missing attribute": "{{ messages[0].name }}{{ messages[0]['name'] }}{% if messages[0].name %}x{% endif %}{% for x in nothing %}{% endfor %}.",
    "in undefined": "{{ 'x' in nothing }}",
    "range": "{% for i in range(3) %}{{ i }}{% endfor %}{{ range(0, 6, 2) | list }}{{ dict(a=1) }}",
    "refuses": "{{ raise_exception('only\ntext') }}",
    "attribute of undefined": "{{ nothing.x.y }}",
    "unknown filter": "{{ 'a' | no_such_filter }}",
    "unknown filter, not reached": "{% if false %}{{ 'a' | no_such_filter }}{% endif %}ok",
    "unknown test": "{{ 'a' is no_such_test }}",
    "unknown tag": "{% trans %}a{% endtrans %}",
    "unknown method": "{{ 'a'.no_such_method() }}",
    "unknown function": "{{ no_such_function() }}",
    "changes a list": "{{ messages.append(1) }}",
    "syntax": "{% if %}",
    "unclosed": "{% for m in messages %}{{ m.role }}",
    "unclosed generation": "{% generation %}a",
    "no such template": "{% include 'x' %}",
}
PROMPTS = ["What is shown in this image?", "  two\nlines & <b> 'é' \"🗼\" <image> ", "{{ 1 }}{% raw %}"]


def template_case(name, source):
    runs = []
    for prompt in PROMPTS:
        for image in (True, False):
            content = ([{"type": "image"}] if image else []) + [{"type": "text", "text": prompt}]
            try:
                text = render_jinja_template([[{"role": "user", "content": content}]], chat_template=source,
                                             add_generation_prompt=True, **BASE_SPECIALS)[0][0]
            except Exception:  # whatever Jinja raises
                text = None
            runs.append({"prompt": prompt, "image": image, "text": text})
    if len({run["text"] for run in runs}) == 1:
        runs = runs[:1]
    return {"name": name, "source": source, "runs": runs}


def main():
    for name, made in [("metaspace", metaspace()), ("metaspace-decoder", metaspace_decoder()), ("bytelevel", bytelevel()),
                       ("wordpiece", wordpiece())]:
        (HERE / f"{name}.json").write_text(json.dumps(json.loads(made.to_str()), ensure_ascii=False) + "\n")
    golden = {"tokenizers": [tokenizer_case(name) for name in FOLDERS],
              "variables": BASE_SPECIALS,
              "templates": [template_case(*t) for t in TEMPLATES.items()]}
    for t in golden["templates"]:
        if t["runs"][0]["text"] is None:
            print("refused:", t["name"])
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
