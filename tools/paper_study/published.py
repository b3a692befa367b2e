"""The figures that the HiRED paper (arXiv 2408.10945, first version) prints, by table.

They are here to stand beside our own. Where later versions of the paper print another number, the page says so.
"""

# How each benchmark is scored, as lmms-eval does it, and how long an answer may be.
# `exact`, `vqa`, `anls` and `relaxed` are metrics of `hired eval`; the other two are counted from its predictions.
TASKS = {
    "vqav2": ("VQAv2", "vqa", 16),
    "sqa": ("ScienceQA", "exact", 16),
    "textvqa": ("TextVQA", "vqa", 64),
    "docvqa": ("DocVQA", "anls", 32),
    "ocrbench": ("OCRBench", "contains", 128),
    "mme": ("MME", "pairs", 16),
    "pope": ("POPE", "exact", 16),
    "chartqa": ("ChartQA", "relaxed", 16),
}
# What Tables 5 to 7 are about.
ABLATED = ("sqa", "vqav2", "textvqa", "docvqa")

# A row of Table 3: what `hired eval` is asked for, then the name of the row.
ROWS = {
    "full": "Full",
    "spatial": "Spatial, 40%",
    "prumerge": "PruMerge, adaptive",
    "prumerge+": "PruMerge+, adaptive",
    "hired 20%": "HiRED, 20%",
    "hired 40%": "HiRED, 40%",
}

TABLE_3 = {
    "LLaVA-Next-7B": {
        "full": (80.3, 73.2, 64.8, 73.4, 501, 1519, 87.6, 54.8),
        "spatial": (77.7, 68.0, 57.0, 58.9, 369, 1401, 87.2, 39.0),
        "prumerge": (75.6, 66.8, 53.5, 37.8, 336, 1393, 85.0, 28.8),
        "prumerge+": (78.0, 68.2, 54.4, 44.6, 365, 1474, 87.9, 30.2),
        "hired 20%": (77.5, 73.4, 61.4, 60.8, 475, 1483, 87.0, 42.0),
        "hired 40%": (78.8, 73.8, 63.6, 68.7, 488, 1474, 88.2, 46.5),
    },
    "LLaVA-Next-13B": {
        "full": (80.9, 73.6, 66.9, 77.5, 508, 1572, 87.1, 66.2),
        "spatial": (79.1, 73.0, 58.8, 61.3, 390, 1529, 87.2, 42.6),
        "prumerge": (74.1, 69.2, 54.4, 45.9, 381, 1471, 84.9, 31.0),
        "prumerge+": (79.1, 70.7, 55.9, 45.9, 381, 1480, 87.5, 31.0),
        "hired 20%": (77.9, 71.9, 63.6, 64.3, 462, 1545, 86.7, 48.9),
        "hired 40%": (79.3, 73.2, 65.2, 72.5, 491, 1570, 87.7, 53.7),
    },
}

# Budget: visual tokens, tokens/s with the prefill, seconds to the first token, GB; LLaVA-Next-7B on a Tesla P40.
TABLE_4 = {
    "full": (2880, 0.49, 19.49, 16.04),
    "40%": (1152, 1.40, 6.91, 14.33),
    "30%": (864, 1.83, 5.30, 14.04),
    "20%": (576, 2.30, 4.21, 13.76),
    "10%": (288, 3.08, 3.14, 13.48),
}

# In the order of ABLATED; LLaVA-Next-7B. The paper gives the budget of Table 7 alone, 10%.
TABLE_5 = {
    "layer 0": (65.2, 68.6, 37.3, 54.0),
    "layer 11": (68.0, 76.1, 51.9, 52.0),
    "layer 22": (68.4, 77.7, 54.8, 59.2),
    "one head": (67.2, 76.6, 50.5, 52.4),
    "sum of heads": (68.4, 77.7, 54.8, 59.2),
}
TABLE_6 = {
    "full": (69.5, 76.6, 46.1, 28.1),
    "prumerge": (65.6, 65.2, 35.4, 18.2),
    "prumerge+": (66.4, 75.8, 36.0, 20.4),
    "hired 20%": (66.4, 74.7, 44.2, 24.6),
    "hired 40%": (67.2, 79.0, 47.0, 29.4),
}
TABLE_7 = {"equal": (67.6, 73.3, 52.2, 48.8), "exact": (68.4, 77.7, 54.8, 50.1)}

# Tokens with the highest attention, by the partition they come from; one image.
TABLE_2 = {"10%": (37, 12, 29, 84, 126), "20%": (94, 40, 61, 148, 234)}
# Share of the visual tokens' attention that the top 20% and 40% receive, read off Figure 2b by its caption.
FIGURE_2 = {20: 0.6, 40: 0.8}


def name(config):
    """Which of the paper's models a configuration is, or None: by decoder and width."""
    text = config.get("text_config", {})
    if config.get("architectures", [""])[0] != "LlavaNextForConditionalGeneration":
        return None
    # Vicuna's files may leave out what is LLaMA's default.
    if text.get("model_type", "llama") != "llama" or text.get("vocab_size", 32064) > 32064:
        return None
    sizes = {4096: "LLaVA-Next-7B", 5120: "LLaVA-Next-13B"}
    return sizes.get(text.get("hidden_size", 4096))
