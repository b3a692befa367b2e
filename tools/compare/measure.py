"""Measuring transformers: one request at a time, with the keys of `hired bench`."""

import gc
import resource
import time

import torch
import transformers
from transformers import AutoImageProcessor, AutoTokenizer
from transformers.generation.streamers import BaseStreamer
from transformers.image_utils import load_image

from compare import picture, published, weights

NAME = f"transformers {transformers.__version__}"


class Stages:
    """When the stages of a request began: on a card by events among its kernels, unwaited for."""

    def __init__(self, model, cuda):
        self.cuda = cuda
        self.marks = []
        inner = model.model
        for module, stage in (
            (inner.vision_tower, "vision"),
            (inner.multi_modal_projector, "project"),
            (inner.language_model, "prefill"),
        ):
            module.register_forward_pre_hook(self.marker(stage))
        model.lm_head.register_forward_hook(self.marker("end"))

    def marker(self, stage):
        def mark(*_):
            # Decode steps come this way too.
            if stage not in (name for name, _ in self.marks):
                self.mark(stage)

        return mark

    def mark(self, stage):
        at = torch.cuda.Event(enable_timing=True) if self.cuda else time.perf_counter()
        if self.cuda:
            at.record()
        self.marks.append((stage, at))

    def seconds(self):
        """By stage. The device must be done."""
        between = lambda a, b: a.elapsed_time(b) / 1e3 if self.cuda else b - a
        pairs = zip(self.marks, self.marks[1:], strict=False)
        return {name: between(begin, end) for (name, begin), (_, end) in pairs}


class Arrivals(BaseStreamer):
    """When tokens reached the host: of the prompt first, then of each step."""

    def __init__(self):
        self.times = []

    def put(self, _tokens):
        self.times.append(time.perf_counter())

    def end(self):
        pass


class Subject:
    """A model, its image processor, and what it is asked."""

    def __init__(self, args):
        self.device = torch.device(args.device)
        # f32 is f32, as hired has it: cuDNN would take TF32.
        torch.backends.cudnn.allow_tf32 = False
        kinds = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
        self.dtype = kinds[args.dtype]
        load, name = weights.folder, args.model
        if args.synthetic:
            load, name = weights.synthetic, args.synthetic
        self.model, self.processor = load(name, self.device, self.dtype)
        config = self.model.config
        self.stages = Stages(self.model, self.device.type == "cuda")
        self.folder, self.image = args.model, args.image
        self.fixed = picture.pil() if args.image is None else None
        self.token = config.image_token_id
        self.ids = picture.prompt(args.prompt_tokens, self.token, config.text_config.vocab_size)
        self.alpha = args.alpha
        self.warm = set()
        # Measured is an answer of a given length, whatever the model would say.
        self.eos = self.model.generation_config.eos_token_id
        self.model.generation_config.pad_token_id = 0

    def inputs(self, batch):
        images = [self.fixed or load_image(self.image) for _ in range(batch)]
        made = self.processor(images=images, return_tensors="pt")
        self.stages.mark("upload")
        return made.to(self.device, self.dtype)

    def around(self, ids):
        at = ids.index(self.token)
        return ids[:at], ids[at + 1 :]

    def full(self, batch, new_tokens, ids, _budget):
        """As anyone asks transformers. Rows of the image, and the answers."""
        inputs = self.inputs(batch)
        rows, newlines = published.order(inputs["image_sizes"][0].tolist(), self.model.config)
        count = len(rows) + newlines
        before, after = self.around(ids)
        prompt = torch.tensor([before + [self.token] * count + after] * batch, device=self.device)
        inputs.update(input_ids=prompt, attention_mask=torch.ones_like(prompt))
        answers = self.generate(inputs, new_tokens)[:, prompt.shape[1] :]
        return count, answers.tolist()

    def hired(self, batch, new_tokens, ids, budget):
        """The same with HiRED as its authors published it."""
        inputs = self.inputs(batch)
        before, after = self.around(ids)
        rows, mask = published.embeddings(
            self.model, inputs, before, after, budget, self.alpha, self.stages
        )
        answers = self.generate({"inputs_embeds": rows, "attention_mask": mask}, new_tokens)
        return rows.shape[1] - len(before) - len(after), answers.tolist()

    def generate(self, inputs, new_tokens):
        return self.model.generate(
            **inputs, max_new_tokens=new_tokens, do_sample=False, streamer=self.arrivals
        )

    @torch.inference_mode()
    def request(self, how, *asked):
        """Rows of the image, answers, and seconds from the pixels in memory to each token."""
        self.stages.marks.clear()
        self.arrivals = Arrivals()
        self.wait()
        start = time.perf_counter()
        self.stages.mark("preprocess")
        count, answers = how(*asked)
        self.wait()
        return count, answers, [at - start for at in self.arrivals.times[1:]]

    def wait(self):
        if self.stages.cuda:
            torch.cuda.synchronize()

    def answer(self, prompt, new_tokens):
        """To a whole prompt with one <image> in it, at the full budget, as the model ends it."""
        self.model.generation_config.eos_token_id = self.eos
        ids = AutoTokenizer.from_pretrained(self.folder)(prompt).input_ids
        return self.request(self.full, 1, new_tokens, ids, None)[1][0]

    def sample(self, budget, batch, args):
        """One request; or why there is none."""
        how, keep = (self.full, None) if budget == "full" else (self.hired, counted(budget))
        self.model.generation_config.eos_token_id = None
        gc.collect()
        try:
            if (budget, batch) not in self.warm:
                self.request(how, batch, args.new_tokens, self.ids, keep)
                self.warm.add((budget, batch))
            if self.stages.cuda:
                torch.cuda.reset_peak_memory_stats()
            asked = batch, args.new_tokens, self.ids, keep
            count, _, (first, *later) = self.request(how, *asked)
        except torch.OutOfMemoryError as error:
            return {"failure": f"out of memory: {str(error).splitlines()[0]}"}
        if 1 + len(later) != args.new_tokens:
            raise ValueError("an answer ended before its last token: it cannot be compared")
        last = later[-1] if later else first
        rate = batch * len(later) / (last - first) if later else None
        return {
            "visual_tokens": count,
            "ttft": first,
            **self.stages.seconds(),
            "decode_tokens_per_second": rate,
            "throughput_with_prefill": batch * args.new_tokens / last,
            "peak_memory": torch.cuda.max_memory_allocated() if self.stages.cuda else resident(),
        }


def resident():
    """The most memory that this process ever held, weights and libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def name(budget, dtype):
    """Who answers at a budget."""
    return f"{NAME}, " + ("sdpa" if budget == "full" else "HiRED as published") + f", {dtype}"


def resample(folder):
    """Whose resizing a folder's image processor does here, by the name that hired has for it."""
    kind = type(AutoImageProcessor.from_pretrained(folder)).__name__
    return "pillow" if kind.endswith("Pil") else "torchvision"


def counted(budget):
    """How many patches a budget keeps of all; a share is cut off as the published code does."""
    if budget.endswith("%"):
        return lambda patches: int(patches * (float(budget[:-1]) / 100))
    return lambda patches: min(int(budget), patches)
