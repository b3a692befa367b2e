// Parses nvcc's results as far as a driver must: the architecture, the kernels, and their
// parameters.
#include <elf.h>

#include <cstring>

#include "driver.h"

namespace emu {
namespace {

constexpr uint16_t EM_CUDA_MACHINE = 190;
constexpr uint8_t KERNEL_BIT = 0x10; // in st_other of a kernel's symbol
constexpr uint8_t ATTRIBUTE_PARAMETER = 0x17, ATTRIBUTE_MAX_THREADS = 0x05, ATTRIBUTE_SIZED = 0x04;

uint32_t word(const char* p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

// Records of {format, attribute, 16-bit value or size}; the payload follows if the format says so.
void read_info(const char* p, size_t size, KernelImage& kernel)
{
    for (size_t at = 0; at + 4 <= size;) {
        uint8_t format = p[at], attribute = p[at + 1];
        uint16_t length = word(p + at) >> 16;
        const char* payload = p + at + 4;
        at += 4;
        if (format != ATTRIBUTE_SIZED) continue;
        if (at + length > size) return;
        at += length;
        if (attribute == ATTRIBUTE_PARAMETER && length >= 12) {
            // {index, ordinal : 16, offset : 16, flags with the size from bit 18}
            size_t ordinal = word(payload + 4) & 0xffff;
            if (kernel.sizes.size() <= ordinal) kernel.sizes.resize(ordinal + 1);
            kernel.sizes[ordinal] = word(payload + 8) >> 18;
        } else if (attribute == ATTRIBUTE_MAX_THREADS && length >= 12) {
            kernel.max_threads = word(payload) * word(payload + 4) * word(payload + 8);
        }
    }
}

Result read_cubin(const char* bytes, Image& image, std::string& why)
{
    Elf64_Ehdr head;
    memcpy(&head, bytes, sizeof head);
    if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != EM_CUDA_MACHINE) {
        why = "an ELF file, but no cubin";
        return INVALID_IMAGE;
    }
    // Before CUDA 12 the architecture is in the lowest byte, since then in the second.
    image.arch = head.e_ident[EI_ABIVERSION] >= 8 ? head.e_flags >> 8 & 0xff : head.e_flags & 0xff;
    std::vector<Elf64_Shdr> sections(head.e_shnum);
    memcpy(sections.data(), bytes + head.e_shoff, sections.size() * sizeof(Elf64_Shdr));
    if (head.e_shstrndx >= sections.size()) {
        why = "a cubin without section names";
        return INVALID_IMAGE;
    }
    const char* names = bytes + sections[head.e_shstrndx].sh_offset;

    for (const Elf64_Shdr& table : sections) {
        if (table.sh_type != SHT_SYMTAB || table.sh_link >= sections.size()) continue;
        const char* strings = bytes + sections[table.sh_link].sh_offset;
        for (size_t i = 0; i < table.sh_size / sizeof(Elf64_Sym); ++i) {
            Elf64_Sym symbol;
            memcpy(&symbol, bytes + table.sh_offset + i * sizeof symbol, sizeof symbol);
            if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && (symbol.st_other & KERNEL_BIT)) {
                image.kernels[strings + symbol.st_name];
            }
        }
    }
    auto kernel_of = [&](const char* name, const char* prefix) -> KernelImage* {
        size_t n = strlen(prefix);
        if (strncmp(name, prefix, n)) return nullptr;
        auto found = image.kernels.find(name + n);
        return found == image.kernels.end() ? nullptr : &found->second;
    };
    for (const Elf64_Shdr& section : sections) {
        const char* name = names + section.sh_name;
        if (KernelImage* kernel = kernel_of(name, ".nv.info.")) {
            read_info(bytes + section.sh_offset, section.sh_size, *kernel);
        } else if (KernelImage* kernel = kernel_of(name, ".nv.shared.")) {
            kernel->static_shared = section.sh_size;
        } else if (KernelImage* kernel = kernel_of(name, ".text.")) {
            kernel->registers = section.sh_info >> 24;
        }
    }
    if (image.kernels.empty()) {
        why = "a cubin without kernels";
        return INVALID_IMAGE;
    }
    return SUCCESS;
}

// A PTX text: `.target sm_NN`, `.entry NAME(`, `.param … NAME_param_N[bytes]`.
Result read_ptx(const std::string& text, Image& image, std::string& why)
{
    size_t target = text.find(".target sm_");
    if (target == std::string::npos) {
        why = "neither a cubin nor a PTX text with a .target";
        return INVALID_IMAGE;
    }
    image.ptx = true;
    image.arch = std::stoul("0" + text.substr(target + 11, 3));
    for (size_t at = 0; (at = text.find(".entry ", at)) != std::string::npos;) {
        at += 7;
        size_t end = text.find_first_of("( \t\r\n{", at), close = text.find_first_of(")", at);
        std::string name = text.substr(at, end - at);
        KernelImage& kernel = image.kernels[name];
        std::string head = text.substr(at, close - at);
        for (size_t p = 0; (p = head.find(".param", p)) != std::string::npos;) {
            size_t line_end = head.find('\n', p += 6);
            std::string line = head.substr(p, line_end - p);
            static const std::map<std::string, unsigned> types = {
                {".u8", 1},  {".s8", 1},  {".b8", 1},  {".u16", 2}, {".s16", 2},
                {".b16", 2}, {".f16", 2}, {".u32", 4}, {".s32", 4}, {".b32", 4},
                {".f32", 4}, {".u64", 8}, {".s64", 8}, {".b64", 8}, {".f64", 8}};
            unsigned size = 0;
            for (const auto& [type, bytes] : types) {
                if (line.find(type + " ") != std::string::npos) size = bytes;
            }
            size_t count = line.find('[');
            if (count != std::string::npos) size *= std::stoul("0" + line.substr(count + 1, 9));
            kernel.sizes.push_back(size);
        }
    }
    return SUCCESS;
}

} // namespace

Result read_image(const void* bytes, Image& image, std::string& why)
{
    const char* p = static_cast<const char*>(bytes);
    if (!memcmp(p, ELFMAG, SELFMAG)) return read_cubin(p, image, why);
    return read_ptx(p, image, why); // terminated by NUL, as the driver requires for PTX
}

} // namespace emu
