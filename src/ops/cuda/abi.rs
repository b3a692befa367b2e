// By bindgen from kernels/abi_codes.h: `HIRED_UPDATE=1 cargo test --test abi` writes this file.

pub const HIRED_PAGE: u32 = 16;
pub const HIRED_NEWLINE: u32 = 4294967295;
pub const HIRED_DROPPED: u32 = 4294967295;
pub const HIRED_WRONG_INIT: u32 = 1;
pub const HIRED_WRONG_FINAL: u32 = 2;
pub const HIRED_LARGE_INIT: u32 = 4;
pub const HIRED_WRONG_LOGITS: u32 = 8;
pub const HIRED_WRONG_ROWS: u32 = 16;
pub const HIRED_SELECT_THREADS: u32 = 256;
pub const HIRED_GREEDY_THREADS: u32 = 1024;
pub const HIRED_SAMPLE_THREADS: u32 = 1024;
pub const HIRED_COSINES: u32 = 67108864;
pub const HIRED_SUM_HEADS: u32 = 0;
pub const HIRED_MEAN_HEADS: u32 = 1;
pub const HIRED_MAX_HEADS: u32 = 2;
pub const HIRED_ONE_HEAD: u32 = 3;
pub const HIRED_SUB_IMAGES: u32 = 4000;
pub const HIRED_PATCHES: u32 = 65536;
pub const HIRED_ROW_THREADS: u32 = 256;
pub const HIRED_NORM_THREADS: u32 = 512;
pub const HIRED_NORM_KEPT: u32 = 16;
pub const HIRED_HEAD_DIM: u32 = 128;
pub const HIRED_ATTENTION_THREADS: u32 = 128;
pub const HIRED_IDENTITY: u32 = 0;
pub const HIRED_QUICK_GELU: u32 = 1;
pub const HIRED_GELU: u32 = 2;
pub const HIRED_SILU: u32 = 3;
pub const HIRED_GELU_TANH: u32 = 4;
pub const HIRED_STORE: u32 = 0;
pub const HIRED_ADD: u32 = 1;
pub const HIRED_GATE: u32 = 2;
pub const HIRED_GEMM_PARTS: u32 = 4;
pub const HIRED_GEMV_ROWS: u32 = 8;
pub const HIRED_GEMV_THREADS: u32 = 128;
pub const HIRED_GEMV_COLS: u32 = 4;
pub const HIRED_LEAST_SPLIT: u32 = 64;
pub const HIRED_SPLIT: u32 = 128;
pub const HIRED_RETAIN_THREADS: u32 = 1024;
pub const HIRED_ROUNDED_ROWS: u32 = 2;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct NormParams {
    pub x: *const ::core::ffi::c_void,
    pub out: *mut ::core::ffi::c_void,
    pub weight: *const f32,
    pub bias: *const f32,
    pub rows: u32,
    pub cols: u32,
    pub inverse_cols: f32,
    pub eps: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of NormParams"][::core::mem::size_of::<NormParams>() - 48usize];
    ["Alignment of NormParams"][::core::mem::align_of::<NormParams>() - 8usize];
    ["Offset of field: NormParams::x"][::core::mem::offset_of!(NormParams, x) - 0usize];
    [
        "Offset of field: NormParams::out",
    ][::core::mem::offset_of!(NormParams, out) - 8usize];
    [
        "Offset of field: NormParams::weight",
    ][::core::mem::offset_of!(NormParams, weight) - 16usize];
    [
        "Offset of field: NormParams::bias",
    ][::core::mem::offset_of!(NormParams, bias) - 24usize];
    [
        "Offset of field: NormParams::rows",
    ][::core::mem::offset_of!(NormParams, rows) - 32usize];
    [
        "Offset of field: NormParams::cols",
    ][::core::mem::offset_of!(NormParams, cols) - 36usize];
    [
        "Offset of field: NormParams::inverse_cols",
    ][::core::mem::offset_of!(NormParams, inverse_cols) - 40usize];
    [
        "Offset of field: NormParams::eps",
    ][::core::mem::offset_of!(NormParams, eps) - 44usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct PatchesParams {
    pub pixels: *const u8,
    pub lut: *const f32,
    pub out: *mut ::core::ffi::c_void,
    pub partitions: u32,
    pub side: u32,
    pub patch: u32,
    pub stride: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PatchesParams"][::core::mem::size_of::<PatchesParams>() - 40usize];
    ["Alignment of PatchesParams"][::core::mem::align_of::<PatchesParams>() - 8usize];
    [
        "Offset of field: PatchesParams::pixels",
    ][::core::mem::offset_of!(PatchesParams, pixels) - 0usize];
    [
        "Offset of field: PatchesParams::lut",
    ][::core::mem::offset_of!(PatchesParams, lut) - 8usize];
    [
        "Offset of field: PatchesParams::out",
    ][::core::mem::offset_of!(PatchesParams, out) - 16usize];
    [
        "Offset of field: PatchesParams::partitions",
    ][::core::mem::offset_of!(PatchesParams, partitions) - 24usize];
    [
        "Offset of field: PatchesParams::side",
    ][::core::mem::offset_of!(PatchesParams, side) - 28usize];
    [
        "Offset of field: PatchesParams::patch",
    ][::core::mem::offset_of!(PatchesParams, patch) - 32usize];
    [
        "Offset of field: PatchesParams::stride",
    ][::core::mem::offset_of!(PatchesParams, stride) - 36usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct TokensParams {
    pub patches: *const ::core::ffi::c_void,
    pub class_token: *const f32,
    pub position: *const f32,
    pub out: *mut ::core::ffi::c_void,
    pub partitions: u32,
    pub patch_count: u32,
    pub cols: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of TokensParams"][::core::mem::size_of::<TokensParams>() - 48usize];
    ["Alignment of TokensParams"][::core::mem::align_of::<TokensParams>() - 8usize];
    [
        "Offset of field: TokensParams::patches",
    ][::core::mem::offset_of!(TokensParams, patches) - 0usize];
    [
        "Offset of field: TokensParams::class_token",
    ][::core::mem::offset_of!(TokensParams, class_token) - 8usize];
    [
        "Offset of field: TokensParams::position",
    ][::core::mem::offset_of!(TokensParams, position) - 16usize];
    [
        "Offset of field: TokensParams::out",
    ][::core::mem::offset_of!(TokensParams, out) - 24usize];
    [
        "Offset of field: TokensParams::partitions",
    ][::core::mem::offset_of!(TokensParams, partitions) - 32usize];
    [
        "Offset of field: TokensParams::patch_count",
    ][::core::mem::offset_of!(TokensParams, patch_count) - 36usize];
    [
        "Offset of field: TokensParams::cols",
    ][::core::mem::offset_of!(TokensParams, cols) - 40usize];
    [
        "Offset of field: TokensParams::reserved",
    ][::core::mem::offset_of!(TokensParams, reserved) - 44usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct GatherParams {
    pub x: *const ::core::ffi::c_void,
    pub rows: *const u32,
    pub out: *mut ::core::ffi::c_void,
    pub count: u32,
    pub row_bytes: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of GatherParams"][::core::mem::size_of::<GatherParams>() - 32usize];
    ["Alignment of GatherParams"][::core::mem::align_of::<GatherParams>() - 8usize];
    [
        "Offset of field: GatherParams::x",
    ][::core::mem::offset_of!(GatherParams, x) - 0usize];
    [
        "Offset of field: GatherParams::rows",
    ][::core::mem::offset_of!(GatherParams, rows) - 8usize];
    [
        "Offset of field: GatherParams::out",
    ][::core::mem::offset_of!(GatherParams, out) - 16usize];
    [
        "Offset of field: GatherParams::count",
    ][::core::mem::offset_of!(GatherParams, count) - 24usize];
    [
        "Offset of field: GatherParams::row_bytes",
    ][::core::mem::offset_of!(GatherParams, row_bytes) - 28usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct InterleaveParams {
    pub table: *const ::core::ffi::c_void,
    pub before: *const u32,
    pub slots: *const u32,
    pub after: *const u32,
    pub visual: *const ::core::ffi::c_void,
    pub newline: *const f32,
    pub out: *mut ::core::ffi::c_void,
    pub before_count: u32,
    pub slot_count: u32,
    pub after_count: u32,
    pub cols: u32,
    pub table_stride: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of InterleaveParams"][::core::mem::size_of::<InterleaveParams>() - 80usize];
    [
        "Alignment of InterleaveParams",
    ][::core::mem::align_of::<InterleaveParams>() - 8usize];
    [
        "Offset of field: InterleaveParams::table",
    ][::core::mem::offset_of!(InterleaveParams, table) - 0usize];
    [
        "Offset of field: InterleaveParams::before",
    ][::core::mem::offset_of!(InterleaveParams, before) - 8usize];
    [
        "Offset of field: InterleaveParams::slots",
    ][::core::mem::offset_of!(InterleaveParams, slots) - 16usize];
    [
        "Offset of field: InterleaveParams::after",
    ][::core::mem::offset_of!(InterleaveParams, after) - 24usize];
    [
        "Offset of field: InterleaveParams::visual",
    ][::core::mem::offset_of!(InterleaveParams, visual) - 32usize];
    [
        "Offset of field: InterleaveParams::newline",
    ][::core::mem::offset_of!(InterleaveParams, newline) - 40usize];
    [
        "Offset of field: InterleaveParams::out",
    ][::core::mem::offset_of!(InterleaveParams, out) - 48usize];
    [
        "Offset of field: InterleaveParams::before_count",
    ][::core::mem::offset_of!(InterleaveParams, before_count) - 56usize];
    [
        "Offset of field: InterleaveParams::slot_count",
    ][::core::mem::offset_of!(InterleaveParams, slot_count) - 60usize];
    [
        "Offset of field: InterleaveParams::after_count",
    ][::core::mem::offset_of!(InterleaveParams, after_count) - 64usize];
    [
        "Offset of field: InterleaveParams::cols",
    ][::core::mem::offset_of!(InterleaveParams, cols) - 68usize];
    [
        "Offset of field: InterleaveParams::table_stride",
    ][::core::mem::offset_of!(InterleaveParams, table_stride) - 72usize];
    [
        "Offset of field: InterleaveParams::reserved",
    ][::core::mem::offset_of!(InterleaveParams, reserved) - 76usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct RopeAppendParams {
    pub q: *mut ::core::ffi::c_void,
    pub k: *const ::core::ffi::c_void,
    pub v: *const ::core::ffi::c_void,
    pub cache: *mut ::core::ffi::c_void,
    pub frequencies: *const f32,
    pub positions: *const u32,
    pub slots: *const u32,
    pub sequences: *const u32,
    pub tables: *const u32,
    pub rows: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub table_stride: u32,
    pub turned: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RopeAppendParams"][::core::mem::size_of::<RopeAppendParams>() - 96usize];
    [
        "Alignment of RopeAppendParams",
    ][::core::mem::align_of::<RopeAppendParams>() - 8usize];
    [
        "Offset of field: RopeAppendParams::q",
    ][::core::mem::offset_of!(RopeAppendParams, q) - 0usize];
    [
        "Offset of field: RopeAppendParams::k",
    ][::core::mem::offset_of!(RopeAppendParams, k) - 8usize];
    [
        "Offset of field: RopeAppendParams::v",
    ][::core::mem::offset_of!(RopeAppendParams, v) - 16usize];
    [
        "Offset of field: RopeAppendParams::cache",
    ][::core::mem::offset_of!(RopeAppendParams, cache) - 24usize];
    [
        "Offset of field: RopeAppendParams::frequencies",
    ][::core::mem::offset_of!(RopeAppendParams, frequencies) - 32usize];
    [
        "Offset of field: RopeAppendParams::positions",
    ][::core::mem::offset_of!(RopeAppendParams, positions) - 40usize];
    [
        "Offset of field: RopeAppendParams::slots",
    ][::core::mem::offset_of!(RopeAppendParams, slots) - 48usize];
    [
        "Offset of field: RopeAppendParams::sequences",
    ][::core::mem::offset_of!(RopeAppendParams, sequences) - 56usize];
    [
        "Offset of field: RopeAppendParams::tables",
    ][::core::mem::offset_of!(RopeAppendParams, tables) - 64usize];
    [
        "Offset of field: RopeAppendParams::rows",
    ][::core::mem::offset_of!(RopeAppendParams, rows) - 72usize];
    [
        "Offset of field: RopeAppendParams::heads",
    ][::core::mem::offset_of!(RopeAppendParams, heads) - 76usize];
    [
        "Offset of field: RopeAppendParams::kv_heads",
    ][::core::mem::offset_of!(RopeAppendParams, kv_heads) - 80usize];
    [
        "Offset of field: RopeAppendParams::head_dim",
    ][::core::mem::offset_of!(RopeAppendParams, head_dim) - 84usize];
    [
        "Offset of field: RopeAppendParams::table_stride",
    ][::core::mem::offset_of!(RopeAppendParams, table_stride) - 88usize];
    [
        "Offset of field: RopeAppendParams::turned",
    ][::core::mem::offset_of!(RopeAppendParams, turned) - 92usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ActivationParams {
    pub x: *mut ::core::ffi::c_void,
    pub bias: *const f32,
    pub rows: u32,
    pub cols: u32,
    pub activation: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ActivationParams"][::core::mem::size_of::<ActivationParams>() - 32usize];
    [
        "Alignment of ActivationParams",
    ][::core::mem::align_of::<ActivationParams>() - 8usize];
    [
        "Offset of field: ActivationParams::x",
    ][::core::mem::offset_of!(ActivationParams, x) - 0usize];
    [
        "Offset of field: ActivationParams::bias",
    ][::core::mem::offset_of!(ActivationParams, bias) - 8usize];
    [
        "Offset of field: ActivationParams::rows",
    ][::core::mem::offset_of!(ActivationParams, rows) - 16usize];
    [
        "Offset of field: ActivationParams::cols",
    ][::core::mem::offset_of!(ActivationParams, cols) - 20usize];
    [
        "Offset of field: ActivationParams::activation",
    ][::core::mem::offset_of!(ActivationParams, activation) - 24usize];
    [
        "Offset of field: ActivationParams::reserved",
    ][::core::mem::offset_of!(ActivationParams, reserved) - 28usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ScaledAddParams {
    pub sum: *mut ::core::ffi::c_void,
    pub x: *const ::core::ffi::c_void,
    pub factors: *const f32,
    pub rows: u32,
    pub cols: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ScaledAddParams"][::core::mem::size_of::<ScaledAddParams>() - 32usize];
    [
        "Alignment of ScaledAddParams",
    ][::core::mem::align_of::<ScaledAddParams>() - 8usize];
    [
        "Offset of field: ScaledAddParams::sum",
    ][::core::mem::offset_of!(ScaledAddParams, sum) - 0usize];
    [
        "Offset of field: ScaledAddParams::x",
    ][::core::mem::offset_of!(ScaledAddParams, x) - 8usize];
    [
        "Offset of field: ScaledAddParams::factors",
    ][::core::mem::offset_of!(ScaledAddParams, factors) - 16usize];
    [
        "Offset of field: ScaledAddParams::rows",
    ][::core::mem::offset_of!(ScaledAddParams, rows) - 24usize];
    [
        "Offset of field: ScaledAddParams::cols",
    ][::core::mem::offset_of!(ScaledAddParams, cols) - 28usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ConvolveParams {
    pub x: *const ::core::ffi::c_void,
    pub weight: *const f32,
    pub bias: *const f32,
    pub out: *mut ::core::ffi::c_void,
    pub side: u32,
    pub cols: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ConvolveParams"][::core::mem::size_of::<ConvolveParams>() - 40usize];
    ["Alignment of ConvolveParams"][::core::mem::align_of::<ConvolveParams>() - 8usize];
    [
        "Offset of field: ConvolveParams::x",
    ][::core::mem::offset_of!(ConvolveParams, x) - 0usize];
    [
        "Offset of field: ConvolveParams::weight",
    ][::core::mem::offset_of!(ConvolveParams, weight) - 8usize];
    [
        "Offset of field: ConvolveParams::bias",
    ][::core::mem::offset_of!(ConvolveParams, bias) - 16usize];
    [
        "Offset of field: ConvolveParams::out",
    ][::core::mem::offset_of!(ConvolveParams, out) - 24usize];
    [
        "Offset of field: ConvolveParams::side",
    ][::core::mem::offset_of!(ConvolveParams, side) - 32usize];
    [
        "Offset of field: ConvolveParams::cols",
    ][::core::mem::offset_of!(ConvolveParams, cols) - 36usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SiluMulParams {
    pub gate: *const ::core::ffi::c_void,
    pub up: *const ::core::ffi::c_void,
    pub out: *mut ::core::ffi::c_void,
    pub count: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SiluMulParams"][::core::mem::size_of::<SiluMulParams>() - 32usize];
    ["Alignment of SiluMulParams"][::core::mem::align_of::<SiluMulParams>() - 8usize];
    [
        "Offset of field: SiluMulParams::gate",
    ][::core::mem::offset_of!(SiluMulParams, gate) - 0usize];
    [
        "Offset of field: SiluMulParams::up",
    ][::core::mem::offset_of!(SiluMulParams, up) - 8usize];
    [
        "Offset of field: SiluMulParams::out",
    ][::core::mem::offset_of!(SiluMulParams, out) - 16usize];
    [
        "Offset of field: SiluMulParams::count",
    ][::core::mem::offset_of!(SiluMulParams, count) - 24usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct GemmParams {
    pub x: *const ::core::ffi::c_void,
    pub weights: [*const ::core::ffi::c_void; 3usize],
    pub biases: [*const f32; 3usize],
    pub outs: [*mut ::core::ffi::c_void; 3usize],
    pub sums: *mut f32,
    pub cols: [u32; 3usize],
    pub out_strides: [u32; 3usize],
    pub rows: u32,
    pub inner: u32,
    pub x_stride: u32,
    pub w_stride: u32,
    pub parts: u32,
    pub activation: u32,
    pub epilogue: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of GemmParams"][::core::mem::size_of::<GemmParams>() - 144usize];
    ["Alignment of GemmParams"][::core::mem::align_of::<GemmParams>() - 8usize];
    ["Offset of field: GemmParams::x"][::core::mem::offset_of!(GemmParams, x) - 0usize];
    [
        "Offset of field: GemmParams::weights",
    ][::core::mem::offset_of!(GemmParams, weights) - 8usize];
    [
        "Offset of field: GemmParams::biases",
    ][::core::mem::offset_of!(GemmParams, biases) - 32usize];
    [
        "Offset of field: GemmParams::outs",
    ][::core::mem::offset_of!(GemmParams, outs) - 56usize];
    [
        "Offset of field: GemmParams::sums",
    ][::core::mem::offset_of!(GemmParams, sums) - 80usize];
    [
        "Offset of field: GemmParams::cols",
    ][::core::mem::offset_of!(GemmParams, cols) - 88usize];
    [
        "Offset of field: GemmParams::out_strides",
    ][::core::mem::offset_of!(GemmParams, out_strides) - 100usize];
    [
        "Offset of field: GemmParams::rows",
    ][::core::mem::offset_of!(GemmParams, rows) - 112usize];
    [
        "Offset of field: GemmParams::inner",
    ][::core::mem::offset_of!(GemmParams, inner) - 116usize];
    [
        "Offset of field: GemmParams::x_stride",
    ][::core::mem::offset_of!(GemmParams, x_stride) - 120usize];
    [
        "Offset of field: GemmParams::w_stride",
    ][::core::mem::offset_of!(GemmParams, w_stride) - 124usize];
    [
        "Offset of field: GemmParams::parts",
    ][::core::mem::offset_of!(GemmParams, parts) - 128usize];
    [
        "Offset of field: GemmParams::activation",
    ][::core::mem::offset_of!(GemmParams, activation) - 132usize];
    [
        "Offset of field: GemmParams::epilogue",
    ][::core::mem::offset_of!(GemmParams, epilogue) - 136usize];
    [
        "Offset of field: GemmParams::reserved",
    ][::core::mem::offset_of!(GemmParams, reserved) - 140usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct VisionAttentionParams {
    pub q: *const ::core::ffi::c_void,
    pub k: *const ::core::ffi::c_void,
    pub v: *const ::core::ffi::c_void,
    pub out: *mut ::core::ffi::c_void,
    pub offsets: *const u32,
    pub tokens: u32,
    pub heads: u32,
    pub head_dim: u32,
    pub q_stride: u32,
    pub kv_stride: u32,
    pub out_stride: u32,
    pub scale: f32,
    pub each: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of VisionAttentionParams",
    ][::core::mem::size_of::<VisionAttentionParams>() - 72usize];
    [
        "Alignment of VisionAttentionParams",
    ][::core::mem::align_of::<VisionAttentionParams>() - 8usize];
    [
        "Offset of field: VisionAttentionParams::q",
    ][::core::mem::offset_of!(VisionAttentionParams, q) - 0usize];
    [
        "Offset of field: VisionAttentionParams::k",
    ][::core::mem::offset_of!(VisionAttentionParams, k) - 8usize];
    [
        "Offset of field: VisionAttentionParams::v",
    ][::core::mem::offset_of!(VisionAttentionParams, v) - 16usize];
    [
        "Offset of field: VisionAttentionParams::out",
    ][::core::mem::offset_of!(VisionAttentionParams, out) - 24usize];
    [
        "Offset of field: VisionAttentionParams::offsets",
    ][::core::mem::offset_of!(VisionAttentionParams, offsets) - 32usize];
    [
        "Offset of field: VisionAttentionParams::tokens",
    ][::core::mem::offset_of!(VisionAttentionParams, tokens) - 40usize];
    [
        "Offset of field: VisionAttentionParams::heads",
    ][::core::mem::offset_of!(VisionAttentionParams, heads) - 44usize];
    [
        "Offset of field: VisionAttentionParams::head_dim",
    ][::core::mem::offset_of!(VisionAttentionParams, head_dim) - 48usize];
    [
        "Offset of field: VisionAttentionParams::q_stride",
    ][::core::mem::offset_of!(VisionAttentionParams, q_stride) - 52usize];
    [
        "Offset of field: VisionAttentionParams::kv_stride",
    ][::core::mem::offset_of!(VisionAttentionParams, kv_stride) - 56usize];
    [
        "Offset of field: VisionAttentionParams::out_stride",
    ][::core::mem::offset_of!(VisionAttentionParams, out_stride) - 60usize];
    [
        "Offset of field: VisionAttentionParams::scale",
    ][::core::mem::offset_of!(VisionAttentionParams, scale) - 64usize];
    [
        "Offset of field: VisionAttentionParams::each",
    ][::core::mem::offset_of!(VisionAttentionParams, each) - 68usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ClsScoresParams {
    pub q: *const ::core::ffi::c_void,
    pub k: *const ::core::ffi::c_void,
    pub weights: *mut f32,
    pub sums: *mut f32,
    pub keys: u32,
    pub patches: u32,
    pub heads: u32,
    pub head_dim: u32,
    pub q_stride: u32,
    pub k_stride: u32,
    pub scale: f32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ClsScoresParams"][::core::mem::size_of::<ClsScoresParams>() - 64usize];
    [
        "Alignment of ClsScoresParams",
    ][::core::mem::align_of::<ClsScoresParams>() - 8usize];
    [
        "Offset of field: ClsScoresParams::q",
    ][::core::mem::offset_of!(ClsScoresParams, q) - 0usize];
    [
        "Offset of field: ClsScoresParams::k",
    ][::core::mem::offset_of!(ClsScoresParams, k) - 8usize];
    [
        "Offset of field: ClsScoresParams::weights",
    ][::core::mem::offset_of!(ClsScoresParams, weights) - 16usize];
    [
        "Offset of field: ClsScoresParams::sums",
    ][::core::mem::offset_of!(ClsScoresParams, sums) - 24usize];
    [
        "Offset of field: ClsScoresParams::keys",
    ][::core::mem::offset_of!(ClsScoresParams, keys) - 32usize];
    [
        "Offset of field: ClsScoresParams::patches",
    ][::core::mem::offset_of!(ClsScoresParams, patches) - 36usize];
    [
        "Offset of field: ClsScoresParams::heads",
    ][::core::mem::offset_of!(ClsScoresParams, heads) - 40usize];
    [
        "Offset of field: ClsScoresParams::head_dim",
    ][::core::mem::offset_of!(ClsScoresParams, head_dim) - 44usize];
    [
        "Offset of field: ClsScoresParams::q_stride",
    ][::core::mem::offset_of!(ClsScoresParams, q_stride) - 48usize];
    [
        "Offset of field: ClsScoresParams::k_stride",
    ][::core::mem::offset_of!(ClsScoresParams, k_stride) - 52usize];
    [
        "Offset of field: ClsScoresParams::scale",
    ][::core::mem::offset_of!(ClsScoresParams, scale) - 56usize];
    [
        "Offset of field: ClsScoresParams::reserved",
    ][::core::mem::offset_of!(ClsScoresParams, reserved) - 60usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ReceivedParams {
    pub q: *const ::core::ffi::c_void,
    pub k: *const ::core::ffi::c_void,
    pub stats: *mut f32,
    pub weights: *mut f32,
    pub sums: *mut f32,
    pub tokens: u32,
    pub patches: u32,
    pub heads: u32,
    pub head_dim: u32,
    pub q_stride: u32,
    pub k_stride: u32,
    pub scale: f32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ReceivedParams"][::core::mem::size_of::<ReceivedParams>() - 72usize];
    ["Alignment of ReceivedParams"][::core::mem::align_of::<ReceivedParams>() - 8usize];
    [
        "Offset of field: ReceivedParams::q",
    ][::core::mem::offset_of!(ReceivedParams, q) - 0usize];
    [
        "Offset of field: ReceivedParams::k",
    ][::core::mem::offset_of!(ReceivedParams, k) - 8usize];
    [
        "Offset of field: ReceivedParams::stats",
    ][::core::mem::offset_of!(ReceivedParams, stats) - 16usize];
    [
        "Offset of field: ReceivedParams::weights",
    ][::core::mem::offset_of!(ReceivedParams, weights) - 24usize];
    [
        "Offset of field: ReceivedParams::sums",
    ][::core::mem::offset_of!(ReceivedParams, sums) - 32usize];
    [
        "Offset of field: ReceivedParams::tokens",
    ][::core::mem::offset_of!(ReceivedParams, tokens) - 40usize];
    [
        "Offset of field: ReceivedParams::patches",
    ][::core::mem::offset_of!(ReceivedParams, patches) - 44usize];
    [
        "Offset of field: ReceivedParams::heads",
    ][::core::mem::offset_of!(ReceivedParams, heads) - 48usize];
    [
        "Offset of field: ReceivedParams::head_dim",
    ][::core::mem::offset_of!(ReceivedParams, head_dim) - 52usize];
    [
        "Offset of field: ReceivedParams::q_stride",
    ][::core::mem::offset_of!(ReceivedParams, q_stride) - 56usize];
    [
        "Offset of field: ReceivedParams::k_stride",
    ][::core::mem::offset_of!(ReceivedParams, k_stride) - 60usize];
    [
        "Offset of field: ReceivedParams::scale",
    ][::core::mem::offset_of!(ReceivedParams, scale) - 64usize];
    [
        "Offset of field: ReceivedParams::reserved",
    ][::core::mem::offset_of!(ReceivedParams, reserved) - 68usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct PrefillParams {
    pub q: *const ::core::ffi::c_void,
    pub cache: *const ::core::ffi::c_void,
    pub out: *mut ::core::ffi::c_void,
    pub pages: *const u32,
    pub rows: u32,
    pub slot: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub q_stride: u32,
    pub out_stride: u32,
    pub scale: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PrefillParams"][::core::mem::size_of::<PrefillParams>() - 64usize];
    ["Alignment of PrefillParams"][::core::mem::align_of::<PrefillParams>() - 8usize];
    [
        "Offset of field: PrefillParams::q",
    ][::core::mem::offset_of!(PrefillParams, q) - 0usize];
    [
        "Offset of field: PrefillParams::cache",
    ][::core::mem::offset_of!(PrefillParams, cache) - 8usize];
    [
        "Offset of field: PrefillParams::out",
    ][::core::mem::offset_of!(PrefillParams, out) - 16usize];
    [
        "Offset of field: PrefillParams::pages",
    ][::core::mem::offset_of!(PrefillParams, pages) - 24usize];
    [
        "Offset of field: PrefillParams::rows",
    ][::core::mem::offset_of!(PrefillParams, rows) - 32usize];
    [
        "Offset of field: PrefillParams::slot",
    ][::core::mem::offset_of!(PrefillParams, slot) - 36usize];
    [
        "Offset of field: PrefillParams::heads",
    ][::core::mem::offset_of!(PrefillParams, heads) - 40usize];
    [
        "Offset of field: PrefillParams::kv_heads",
    ][::core::mem::offset_of!(PrefillParams, kv_heads) - 44usize];
    [
        "Offset of field: PrefillParams::head_dim",
    ][::core::mem::offset_of!(PrefillParams, head_dim) - 48usize];
    [
        "Offset of field: PrefillParams::q_stride",
    ][::core::mem::offset_of!(PrefillParams, q_stride) - 52usize];
    [
        "Offset of field: PrefillParams::out_stride",
    ][::core::mem::offset_of!(PrefillParams, out_stride) - 56usize];
    [
        "Offset of field: PrefillParams::scale",
    ][::core::mem::offset_of!(PrefillParams, scale) - 60usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct DecodeParams {
    pub q: *const ::core::ffi::c_void,
    pub k: *const ::core::ffi::c_void,
    pub v: *const ::core::ffi::c_void,
    pub cache: *mut ::core::ffi::c_void,
    pub out: *mut ::core::ffi::c_void,
    pub frequencies: *const f32,
    pub positions: *const u32,
    pub slots: *const u32,
    pub tables: *const u32,
    pub mixed: *mut f32,
    pub weights: *mut f32,
    pub done: *mut u32,
    pub split: u32,
    pub splits: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub table_stride: u32,
    pub q_stride: u32,
    pub kv_stride: u32,
    pub out_stride: u32,
    pub scale: f32,
    pub turned: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of DecodeParams"][::core::mem::size_of::<DecodeParams>() - 144usize];
    ["Alignment of DecodeParams"][::core::mem::align_of::<DecodeParams>() - 8usize];
    [
        "Offset of field: DecodeParams::q",
    ][::core::mem::offset_of!(DecodeParams, q) - 0usize];
    [
        "Offset of field: DecodeParams::k",
    ][::core::mem::offset_of!(DecodeParams, k) - 8usize];
    [
        "Offset of field: DecodeParams::v",
    ][::core::mem::offset_of!(DecodeParams, v) - 16usize];
    [
        "Offset of field: DecodeParams::cache",
    ][::core::mem::offset_of!(DecodeParams, cache) - 24usize];
    [
        "Offset of field: DecodeParams::out",
    ][::core::mem::offset_of!(DecodeParams, out) - 32usize];
    [
        "Offset of field: DecodeParams::frequencies",
    ][::core::mem::offset_of!(DecodeParams, frequencies) - 40usize];
    [
        "Offset of field: DecodeParams::positions",
    ][::core::mem::offset_of!(DecodeParams, positions) - 48usize];
    [
        "Offset of field: DecodeParams::slots",
    ][::core::mem::offset_of!(DecodeParams, slots) - 56usize];
    [
        "Offset of field: DecodeParams::tables",
    ][::core::mem::offset_of!(DecodeParams, tables) - 64usize];
    [
        "Offset of field: DecodeParams::mixed",
    ][::core::mem::offset_of!(DecodeParams, mixed) - 72usize];
    [
        "Offset of field: DecodeParams::weights",
    ][::core::mem::offset_of!(DecodeParams, weights) - 80usize];
    [
        "Offset of field: DecodeParams::done",
    ][::core::mem::offset_of!(DecodeParams, done) - 88usize];
    [
        "Offset of field: DecodeParams::split",
    ][::core::mem::offset_of!(DecodeParams, split) - 96usize];
    [
        "Offset of field: DecodeParams::splits",
    ][::core::mem::offset_of!(DecodeParams, splits) - 100usize];
    [
        "Offset of field: DecodeParams::heads",
    ][::core::mem::offset_of!(DecodeParams, heads) - 104usize];
    [
        "Offset of field: DecodeParams::kv_heads",
    ][::core::mem::offset_of!(DecodeParams, kv_heads) - 108usize];
    [
        "Offset of field: DecodeParams::head_dim",
    ][::core::mem::offset_of!(DecodeParams, head_dim) - 112usize];
    [
        "Offset of field: DecodeParams::table_stride",
    ][::core::mem::offset_of!(DecodeParams, table_stride) - 116usize];
    [
        "Offset of field: DecodeParams::q_stride",
    ][::core::mem::offset_of!(DecodeParams, q_stride) - 120usize];
    [
        "Offset of field: DecodeParams::kv_stride",
    ][::core::mem::offset_of!(DecodeParams, kv_stride) - 124usize];
    [
        "Offset of field: DecodeParams::out_stride",
    ][::core::mem::offset_of!(DecodeParams, out_stride) - 128usize];
    [
        "Offset of field: DecodeParams::scale",
    ][::core::mem::offset_of!(DecodeParams, scale) - 132usize];
    [
        "Offset of field: DecodeParams::turned",
    ][::core::mem::offset_of!(DecodeParams, turned) - 136usize];
    [
        "Offset of field: DecodeParams::reserved",
    ][::core::mem::offset_of!(DecodeParams, reserved) - 140usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct LastRowParams {
    pub q: *const ::core::ffi::c_void,
    pub cache: *const ::core::ffi::c_void,
    pub pages: *const u32,
    pub weights: *mut f32,
    pub sums: *mut f32,
    pub keys: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub scale: f32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of LastRowParams"][::core::mem::size_of::<LastRowParams>() - 64usize];
    ["Alignment of LastRowParams"][::core::mem::align_of::<LastRowParams>() - 8usize];
    [
        "Offset of field: LastRowParams::q",
    ][::core::mem::offset_of!(LastRowParams, q) - 0usize];
    [
        "Offset of field: LastRowParams::cache",
    ][::core::mem::offset_of!(LastRowParams, cache) - 8usize];
    [
        "Offset of field: LastRowParams::pages",
    ][::core::mem::offset_of!(LastRowParams, pages) - 16usize];
    [
        "Offset of field: LastRowParams::weights",
    ][::core::mem::offset_of!(LastRowParams, weights) - 24usize];
    [
        "Offset of field: LastRowParams::sums",
    ][::core::mem::offset_of!(LastRowParams, sums) - 32usize];
    [
        "Offset of field: LastRowParams::keys",
    ][::core::mem::offset_of!(LastRowParams, keys) - 40usize];
    [
        "Offset of field: LastRowParams::heads",
    ][::core::mem::offset_of!(LastRowParams, heads) - 44usize];
    [
        "Offset of field: LastRowParams::kv_heads",
    ][::core::mem::offset_of!(LastRowParams, kv_heads) - 48usize];
    [
        "Offset of field: LastRowParams::head_dim",
    ][::core::mem::offset_of!(LastRowParams, head_dim) - 52usize];
    [
        "Offset of field: LastRowParams::scale",
    ][::core::mem::offset_of!(LastRowParams, scale) - 56usize];
    [
        "Offset of field: LastRowParams::reserved",
    ][::core::mem::offset_of!(LastRowParams, reserved) - 60usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct RetainParams {
    pub weights: *const f32,
    pub sums: *const f32,
    pub scores: *mut f32,
    pub out: *mut u32,
    pub heads: u32,
    pub rows: u32,
    pub first: u32,
    pub candidates: u32,
    pub keep: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RetainParams"][::core::mem::size_of::<RetainParams>() - 56usize];
    ["Alignment of RetainParams"][::core::mem::align_of::<RetainParams>() - 8usize];
    [
        "Offset of field: RetainParams::weights",
    ][::core::mem::offset_of!(RetainParams, weights) - 0usize];
    [
        "Offset of field: RetainParams::sums",
    ][::core::mem::offset_of!(RetainParams, sums) - 8usize];
    [
        "Offset of field: RetainParams::scores",
    ][::core::mem::offset_of!(RetainParams, scores) - 16usize];
    [
        "Offset of field: RetainParams::out",
    ][::core::mem::offset_of!(RetainParams, out) - 24usize];
    [
        "Offset of field: RetainParams::heads",
    ][::core::mem::offset_of!(RetainParams, heads) - 32usize];
    [
        "Offset of field: RetainParams::rows",
    ][::core::mem::offset_of!(RetainParams, rows) - 36usize];
    [
        "Offset of field: RetainParams::first",
    ][::core::mem::offset_of!(RetainParams, first) - 40usize];
    [
        "Offset of field: RetainParams::candidates",
    ][::core::mem::offset_of!(RetainParams, candidates) - 44usize];
    [
        "Offset of field: RetainParams::keep",
    ][::core::mem::offset_of!(RetainParams, keep) - 48usize];
    [
        "Offset of field: RetainParams::reserved",
    ][::core::mem::offset_of!(RetainParams, reserved) - 52usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectArea {
    pub partitions: u32,
    pub side: u32,
    pub grid_rows: u32,
    pub grid_cols: u32,
    pub row_begin: u32,
    pub row_end: u32,
    pub col_begin: u32,
    pub col_end: u32,
    pub cell: u32,
    pub tiled: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectArea"][::core::mem::size_of::<SelectArea>() - 40usize];
    ["Alignment of SelectArea"][::core::mem::align_of::<SelectArea>() - 4usize];
    [
        "Offset of field: SelectArea::partitions",
    ][::core::mem::offset_of!(SelectArea, partitions) - 0usize];
    [
        "Offset of field: SelectArea::side",
    ][::core::mem::offset_of!(SelectArea, side) - 4usize];
    [
        "Offset of field: SelectArea::grid_rows",
    ][::core::mem::offset_of!(SelectArea, grid_rows) - 8usize];
    [
        "Offset of field: SelectArea::grid_cols",
    ][::core::mem::offset_of!(SelectArea, grid_cols) - 12usize];
    [
        "Offset of field: SelectArea::row_begin",
    ][::core::mem::offset_of!(SelectArea, row_begin) - 16usize];
    [
        "Offset of field: SelectArea::row_end",
    ][::core::mem::offset_of!(SelectArea, row_end) - 20usize];
    [
        "Offset of field: SelectArea::col_begin",
    ][::core::mem::offset_of!(SelectArea, col_begin) - 24usize];
    [
        "Offset of field: SelectArea::col_end",
    ][::core::mem::offset_of!(SelectArea, col_end) - 28usize];
    [
        "Offset of field: SelectArea::cell",
    ][::core::mem::offset_of!(SelectArea, cell) - 32usize];
    [
        "Offset of field: SelectArea::tiled",
    ][::core::mem::offset_of!(SelectArea, tiled) - 36usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectScores {
    pub weights: *const f32,
    pub sums: *const f32,
    pub out: *mut f32,
    pub heads: u32,
    pub how: u32,
    pub side: u32,
    pub cell: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectScores"][::core::mem::size_of::<SelectScores>() - 40usize];
    ["Alignment of SelectScores"][::core::mem::align_of::<SelectScores>() - 8usize];
    [
        "Offset of field: SelectScores::weights",
    ][::core::mem::offset_of!(SelectScores, weights) - 0usize];
    [
        "Offset of field: SelectScores::sums",
    ][::core::mem::offset_of!(SelectScores, sums) - 8usize];
    [
        "Offset of field: SelectScores::out",
    ][::core::mem::offset_of!(SelectScores, out) - 16usize];
    [
        "Offset of field: SelectScores::heads",
    ][::core::mem::offset_of!(SelectScores, heads) - 24usize];
    [
        "Offset of field: SelectScores::how",
    ][::core::mem::offset_of!(SelectScores, how) - 28usize];
    [
        "Offset of field: SelectScores::side",
    ][::core::mem::offset_of!(SelectScores, side) - 32usize];
    [
        "Offset of field: SelectScores::cell",
    ][::core::mem::offset_of!(SelectScores, cell) - 36usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectExactParams {
    pub init: SelectScores,
    pub allocation: *mut u32,
    pub flags: *mut u32,
    pub mass_limit: u64,
    pub area: SelectArea,
    pub full_image: u32,
    pub sub_images: u32,
    pub pixels: u32,
    pub fit_rows: u32,
    pub fit_cols: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of SelectExactParams",
    ][::core::mem::size_of::<SelectExactParams>() - 128usize];
    [
        "Alignment of SelectExactParams",
    ][::core::mem::align_of::<SelectExactParams>() - 8usize];
    [
        "Offset of field: SelectExactParams::init",
    ][::core::mem::offset_of!(SelectExactParams, init) - 0usize];
    [
        "Offset of field: SelectExactParams::allocation",
    ][::core::mem::offset_of!(SelectExactParams, allocation) - 40usize];
    [
        "Offset of field: SelectExactParams::flags",
    ][::core::mem::offset_of!(SelectExactParams, flags) - 48usize];
    [
        "Offset of field: SelectExactParams::mass_limit",
    ][::core::mem::offset_of!(SelectExactParams, mass_limit) - 56usize];
    [
        "Offset of field: SelectExactParams::area",
    ][::core::mem::offset_of!(SelectExactParams, area) - 64usize];
    [
        "Offset of field: SelectExactParams::full_image",
    ][::core::mem::offset_of!(SelectExactParams, full_image) - 104usize];
    [
        "Offset of field: SelectExactParams::sub_images",
    ][::core::mem::offset_of!(SelectExactParams, sub_images) - 108usize];
    [
        "Offset of field: SelectExactParams::pixels",
    ][::core::mem::offset_of!(SelectExactParams, pixels) - 112usize];
    [
        "Offset of field: SelectExactParams::fit_rows",
    ][::core::mem::offset_of!(SelectExactParams, fit_rows) - 116usize];
    [
        "Offset of field: SelectExactParams::fit_cols",
    ][::core::mem::offset_of!(SelectExactParams, fit_cols) - 120usize];
    [
        "Offset of field: SelectExactParams::reserved",
    ][::core::mem::offset_of!(SelectExactParams, reserved) - 124usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectPaperParams {
    pub init: SelectScores,
    pub allocation: *mut u32,
    pub flags: *mut u32,
    pub sub_images: u64,
    pub area: SelectArea,
    pub full_image: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of SelectPaperParams",
    ][::core::mem::size_of::<SelectPaperParams>() - 112usize];
    [
        "Alignment of SelectPaperParams",
    ][::core::mem::align_of::<SelectPaperParams>() - 8usize];
    [
        "Offset of field: SelectPaperParams::init",
    ][::core::mem::offset_of!(SelectPaperParams, init) - 0usize];
    [
        "Offset of field: SelectPaperParams::allocation",
    ][::core::mem::offset_of!(SelectPaperParams, allocation) - 40usize];
    [
        "Offset of field: SelectPaperParams::flags",
    ][::core::mem::offset_of!(SelectPaperParams, flags) - 48usize];
    [
        "Offset of field: SelectPaperParams::sub_images",
    ][::core::mem::offset_of!(SelectPaperParams, sub_images) - 56usize];
    [
        "Offset of field: SelectPaperParams::area",
    ][::core::mem::offset_of!(SelectPaperParams, area) - 64usize];
    [
        "Offset of field: SelectPaperParams::full_image",
    ][::core::mem::offset_of!(SelectPaperParams, full_image) - 104usize];
    [
        "Offset of field: SelectPaperParams::reserved",
    ][::core::mem::offset_of!(SelectPaperParams, reserved) - 108usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectRepoParams {
    pub init: SelectScores,
    pub allocation: *mut u32,
    pub flags: *mut u32,
    pub area: SelectArea,
    pub full_image: u32,
    pub sub_images: u32,
    pub marked: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectRepoParams"][::core::mem::size_of::<SelectRepoParams>() - 112usize];
    [
        "Alignment of SelectRepoParams",
    ][::core::mem::align_of::<SelectRepoParams>() - 8usize];
    [
        "Offset of field: SelectRepoParams::init",
    ][::core::mem::offset_of!(SelectRepoParams, init) - 0usize];
    [
        "Offset of field: SelectRepoParams::allocation",
    ][::core::mem::offset_of!(SelectRepoParams, allocation) - 40usize];
    [
        "Offset of field: SelectRepoParams::flags",
    ][::core::mem::offset_of!(SelectRepoParams, flags) - 48usize];
    [
        "Offset of field: SelectRepoParams::area",
    ][::core::mem::offset_of!(SelectRepoParams, area) - 56usize];
    [
        "Offset of field: SelectRepoParams::full_image",
    ][::core::mem::offset_of!(SelectRepoParams, full_image) - 96usize];
    [
        "Offset of field: SelectRepoParams::sub_images",
    ][::core::mem::offset_of!(SelectRepoParams, sub_images) - 100usize];
    [
        "Offset of field: SelectRepoParams::marked",
    ][::core::mem::offset_of!(SelectRepoParams, marked) - 104usize];
    [
        "Offset of field: SelectRepoParams::reserved",
    ][::core::mem::offset_of!(SelectRepoParams, reserved) - 108usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectTopkParams {
    pub scores: SelectScores,
    pub allocation: *const u32,
    pub ranks: *mut u32,
    pub counts: *mut u32,
    pub flags: *mut u32,
    pub area: SelectArea,
    pub padding: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectTopkParams"][::core::mem::size_of::<SelectTopkParams>() - 120usize];
    [
        "Alignment of SelectTopkParams",
    ][::core::mem::align_of::<SelectTopkParams>() - 8usize];
    [
        "Offset of field: SelectTopkParams::scores",
    ][::core::mem::offset_of!(SelectTopkParams, scores) - 0usize];
    [
        "Offset of field: SelectTopkParams::allocation",
    ][::core::mem::offset_of!(SelectTopkParams, allocation) - 40usize];
    [
        "Offset of field: SelectTopkParams::ranks",
    ][::core::mem::offset_of!(SelectTopkParams, ranks) - 48usize];
    [
        "Offset of field: SelectTopkParams::counts",
    ][::core::mem::offset_of!(SelectTopkParams, counts) - 56usize];
    [
        "Offset of field: SelectTopkParams::flags",
    ][::core::mem::offset_of!(SelectTopkParams, flags) - 64usize];
    [
        "Offset of field: SelectTopkParams::area",
    ][::core::mem::offset_of!(SelectTopkParams, area) - 72usize];
    [
        "Offset of field: SelectTopkParams::padding",
    ][::core::mem::offset_of!(SelectTopkParams, padding) - 112usize];
    [
        "Offset of field: SelectTopkParams::reserved",
    ][::core::mem::offset_of!(SelectTopkParams, reserved) - 116usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectRowsParams {
    pub ranks: *const u32,
    pub counts: *const u32,
    pub offsets: *mut u32,
    pub patches: *mut u32,
    pub rows: *mut u32,
    pub area: SelectArea,
    pub projected: u32,
    pub prefix: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectRowsParams"][::core::mem::size_of::<SelectRowsParams>() - 88usize];
    [
        "Alignment of SelectRowsParams",
    ][::core::mem::align_of::<SelectRowsParams>() - 8usize];
    [
        "Offset of field: SelectRowsParams::ranks",
    ][::core::mem::offset_of!(SelectRowsParams, ranks) - 0usize];
    [
        "Offset of field: SelectRowsParams::counts",
    ][::core::mem::offset_of!(SelectRowsParams, counts) - 8usize];
    [
        "Offset of field: SelectRowsParams::offsets",
    ][::core::mem::offset_of!(SelectRowsParams, offsets) - 16usize];
    [
        "Offset of field: SelectRowsParams::patches",
    ][::core::mem::offset_of!(SelectRowsParams, patches) - 24usize];
    [
        "Offset of field: SelectRowsParams::rows",
    ][::core::mem::offset_of!(SelectRowsParams, rows) - 32usize];
    [
        "Offset of field: SelectRowsParams::area",
    ][::core::mem::offset_of!(SelectRowsParams, area) - 40usize];
    [
        "Offset of field: SelectRowsParams::projected",
    ][::core::mem::offset_of!(SelectRowsParams, projected) - 80usize];
    [
        "Offset of field: SelectRowsParams::prefix",
    ][::core::mem::offset_of!(SelectRowsParams, prefix) - 84usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectOrderParams {
    pub ranks: *const u32,
    pub offsets: *const u32,
    pub added: *const u32,
    pub slots: *mut u32,
    pub area: SelectArea,
    pub newlines: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectOrderParams"][::core::mem::size_of::<SelectOrderParams>() - 80usize];
    [
        "Alignment of SelectOrderParams",
    ][::core::mem::align_of::<SelectOrderParams>() - 8usize];
    [
        "Offset of field: SelectOrderParams::ranks",
    ][::core::mem::offset_of!(SelectOrderParams, ranks) - 0usize];
    [
        "Offset of field: SelectOrderParams::offsets",
    ][::core::mem::offset_of!(SelectOrderParams, offsets) - 8usize];
    [
        "Offset of field: SelectOrderParams::added",
    ][::core::mem::offset_of!(SelectOrderParams, added) - 16usize];
    [
        "Offset of field: SelectOrderParams::slots",
    ][::core::mem::offset_of!(SelectOrderParams, slots) - 24usize];
    [
        "Offset of field: SelectOrderParams::area",
    ][::core::mem::offset_of!(SelectOrderParams, area) - 32usize];
    [
        "Offset of field: SelectOrderParams::newlines",
    ][::core::mem::offset_of!(SelectOrderParams, newlines) - 72usize];
    [
        "Offset of field: SelectOrderParams::reserved",
    ][::core::mem::offset_of!(SelectOrderParams, reserved) - 76usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectPart {
    pub cosines: u64,
    pub first: u32,
    pub count: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectPart"][::core::mem::size_of::<SelectPart>() - 16usize];
    ["Alignment of SelectPart"][::core::mem::align_of::<SelectPart>() - 8usize];
    [
        "Offset of field: SelectPart::cosines",
    ][::core::mem::offset_of!(SelectPart, cosines) - 0usize];
    [
        "Offset of field: SelectPart::first",
    ][::core::mem::offset_of!(SelectPart, first) - 8usize];
    [
        "Offset of field: SelectPart::count",
    ][::core::mem::offset_of!(SelectPart, count) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectMix {
    pub spans: *mut u32,
    pub sources: *mut u32,
    pub weights: *mut f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectMix"][::core::mem::size_of::<SelectMix>() - 24usize];
    ["Alignment of SelectMix"][::core::mem::align_of::<SelectMix>() - 8usize];
    [
        "Offset of field: SelectMix::spans",
    ][::core::mem::offset_of!(SelectMix, spans) - 0usize];
    [
        "Offset of field: SelectMix::sources",
    ][::core::mem::offset_of!(SelectMix, sources) - 8usize];
    [
        "Offset of field: SelectMix::weights",
    ][::core::mem::offset_of!(SelectMix, weights) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct UnitRowsParams {
    pub x: *const ::core::ffi::c_void,
    pub rows: *const u32,
    pub out: *mut f32,
    pub flags: *mut u32,
    pub heads: u32,
    pub width: u32,
    pub x_stride: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of UnitRowsParams"][::core::mem::size_of::<UnitRowsParams>() - 48usize];
    ["Alignment of UnitRowsParams"][::core::mem::align_of::<UnitRowsParams>() - 8usize];
    [
        "Offset of field: UnitRowsParams::x",
    ][::core::mem::offset_of!(UnitRowsParams, x) - 0usize];
    [
        "Offset of field: UnitRowsParams::rows",
    ][::core::mem::offset_of!(UnitRowsParams, rows) - 8usize];
    [
        "Offset of field: UnitRowsParams::out",
    ][::core::mem::offset_of!(UnitRowsParams, out) - 16usize];
    [
        "Offset of field: UnitRowsParams::flags",
    ][::core::mem::offset_of!(UnitRowsParams, flags) - 24usize];
    [
        "Offset of field: UnitRowsParams::heads",
    ][::core::mem::offset_of!(UnitRowsParams, heads) - 32usize];
    [
        "Offset of field: UnitRowsParams::width",
    ][::core::mem::offset_of!(UnitRowsParams, width) - 36usize];
    [
        "Offset of field: UnitRowsParams::x_stride",
    ][::core::mem::offset_of!(UnitRowsParams, x_stride) - 40usize];
    [
        "Offset of field: UnitRowsParams::reserved",
    ][::core::mem::offset_of!(UnitRowsParams, reserved) - 44usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ClassAttentionParams {
    pub q: *const ::core::ffi::c_void,
    pub k: *const ::core::ffi::c_void,
    pub logits: *mut f64,
    pub out: *mut f32,
    pub flags: *mut u32,
    pub scale: f64,
    pub patch_count: u32,
    pub width: u32,
    pub q_stride: u32,
    pub k_stride: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of ClassAttentionParams",
    ][::core::mem::size_of::<ClassAttentionParams>() - 64usize];
    [
        "Alignment of ClassAttentionParams",
    ][::core::mem::align_of::<ClassAttentionParams>() - 8usize];
    [
        "Offset of field: ClassAttentionParams::q",
    ][::core::mem::offset_of!(ClassAttentionParams, q) - 0usize];
    [
        "Offset of field: ClassAttentionParams::k",
    ][::core::mem::offset_of!(ClassAttentionParams, k) - 8usize];
    [
        "Offset of field: ClassAttentionParams::logits",
    ][::core::mem::offset_of!(ClassAttentionParams, logits) - 16usize];
    [
        "Offset of field: ClassAttentionParams::out",
    ][::core::mem::offset_of!(ClassAttentionParams, out) - 24usize];
    [
        "Offset of field: ClassAttentionParams::flags",
    ][::core::mem::offset_of!(ClassAttentionParams, flags) - 32usize];
    [
        "Offset of field: ClassAttentionParams::scale",
    ][::core::mem::offset_of!(ClassAttentionParams, scale) - 40usize];
    [
        "Offset of field: ClassAttentionParams::patch_count",
    ][::core::mem::offset_of!(ClassAttentionParams, patch_count) - 48usize];
    [
        "Offset of field: ClassAttentionParams::width",
    ][::core::mem::offset_of!(ClassAttentionParams, width) - 52usize];
    [
        "Offset of field: ClassAttentionParams::q_stride",
    ][::core::mem::offset_of!(ClassAttentionParams, q_stride) - 56usize];
    [
        "Offset of field: ClassAttentionParams::k_stride",
    ][::core::mem::offset_of!(ClassAttentionParams, k_stride) - 60usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct MixRowsParams {
    pub x: *const ::core::ffi::c_void,
    pub out: *mut ::core::ffi::c_void,
    pub mix: SelectMix,
    pub cols: u32,
    pub x_stride: u32,
    pub out_stride: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of MixRowsParams"][::core::mem::size_of::<MixRowsParams>() - 56usize];
    ["Alignment of MixRowsParams"][::core::mem::align_of::<MixRowsParams>() - 8usize];
    [
        "Offset of field: MixRowsParams::x",
    ][::core::mem::offset_of!(MixRowsParams, x) - 0usize];
    [
        "Offset of field: MixRowsParams::out",
    ][::core::mem::offset_of!(MixRowsParams, out) - 8usize];
    [
        "Offset of field: MixRowsParams::mix",
    ][::core::mem::offset_of!(MixRowsParams, mix) - 16usize];
    [
        "Offset of field: MixRowsParams::cols",
    ][::core::mem::offset_of!(MixRowsParams, cols) - 40usize];
    [
        "Offset of field: MixRowsParams::x_stride",
    ][::core::mem::offset_of!(MixRowsParams, x_stride) - 44usize];
    [
        "Offset of field: MixRowsParams::out_stride",
    ][::core::mem::offset_of!(MixRowsParams, out_stride) - 48usize];
    [
        "Offset of field: MixRowsParams::reserved",
    ][::core::mem::offset_of!(MixRowsParams, reserved) - 52usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectContext {
    pub contexts: u32,
    pub class_row: u32,
    pub context_row: u32,
    pub source: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SelectContext"][::core::mem::size_of::<SelectContext>() - 16usize];
    ["Alignment of SelectContext"][::core::mem::align_of::<SelectContext>() - 4usize];
    [
        "Offset of field: SelectContext::contexts",
    ][::core::mem::offset_of!(SelectContext, contexts) - 0usize];
    [
        "Offset of field: SelectContext::class_row",
    ][::core::mem::offset_of!(SelectContext, class_row) - 4usize];
    [
        "Offset of field: SelectContext::context_row",
    ][::core::mem::offset_of!(SelectContext, context_row) - 8usize];
    [
        "Offset of field: SelectContext::source",
    ][::core::mem::offset_of!(SelectContext, source) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectContextsParams {
    pub mix: SelectMix,
    pub cosines: *const f32,
    pub valid: *const u32,
    pub parts: *const SelectPart,
    pub contexts: *const SelectContext,
    pub ranks: *const u32,
    pub offsets: *const u32,
    pub rows: *const u32,
    pub left: *mut u32,
    pub patch_count: u32,
    pub valid_count: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of SelectContextsParams",
    ][::core::mem::size_of::<SelectContextsParams>() - 96usize];
    [
        "Alignment of SelectContextsParams",
    ][::core::mem::align_of::<SelectContextsParams>() - 8usize];
    [
        "Offset of field: SelectContextsParams::mix",
    ][::core::mem::offset_of!(SelectContextsParams, mix) - 0usize];
    [
        "Offset of field: SelectContextsParams::cosines",
    ][::core::mem::offset_of!(SelectContextsParams, cosines) - 24usize];
    [
        "Offset of field: SelectContextsParams::valid",
    ][::core::mem::offset_of!(SelectContextsParams, valid) - 32usize];
    [
        "Offset of field: SelectContextsParams::parts",
    ][::core::mem::offset_of!(SelectContextsParams, parts) - 40usize];
    [
        "Offset of field: SelectContextsParams::contexts",
    ][::core::mem::offset_of!(SelectContextsParams, contexts) - 48usize];
    [
        "Offset of field: SelectContextsParams::ranks",
    ][::core::mem::offset_of!(SelectContextsParams, ranks) - 56usize];
    [
        "Offset of field: SelectContextsParams::offsets",
    ][::core::mem::offset_of!(SelectContextsParams, offsets) - 64usize];
    [
        "Offset of field: SelectContextsParams::rows",
    ][::core::mem::offset_of!(SelectContextsParams, rows) - 72usize];
    [
        "Offset of field: SelectContextsParams::left",
    ][::core::mem::offset_of!(SelectContextsParams, left) - 80usize];
    [
        "Offset of field: SelectContextsParams::patch_count",
    ][::core::mem::offset_of!(SelectContextsParams, patch_count) - 88usize];
    [
        "Offset of field: SelectContextsParams::valid_count",
    ][::core::mem::offset_of!(SelectContextsParams, valid_count) - 92usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectOutstandingParams {
    pub attention: *const f32,
    pub valid: *const u32,
    pub parts: *const SelectPart,
    pub allocation: *const u32,
    pub ranks: *mut u32,
    pub counts: *mut u32,
    pub merged: *mut u32,
    pub patch_count: u32,
    pub spatial: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of SelectOutstandingParams",
    ][::core::mem::size_of::<SelectOutstandingParams>() - 64usize];
    [
        "Alignment of SelectOutstandingParams",
    ][::core::mem::align_of::<SelectOutstandingParams>() - 8usize];
    [
        "Offset of field: SelectOutstandingParams::attention",
    ][::core::mem::offset_of!(SelectOutstandingParams, attention) - 0usize];
    [
        "Offset of field: SelectOutstandingParams::valid",
    ][::core::mem::offset_of!(SelectOutstandingParams, valid) - 8usize];
    [
        "Offset of field: SelectOutstandingParams::parts",
    ][::core::mem::offset_of!(SelectOutstandingParams, parts) - 16usize];
    [
        "Offset of field: SelectOutstandingParams::allocation",
    ][::core::mem::offset_of!(SelectOutstandingParams, allocation) - 24usize];
    [
        "Offset of field: SelectOutstandingParams::ranks",
    ][::core::mem::offset_of!(SelectOutstandingParams, ranks) - 32usize];
    [
        "Offset of field: SelectOutstandingParams::counts",
    ][::core::mem::offset_of!(SelectOutstandingParams, counts) - 40usize];
    [
        "Offset of field: SelectOutstandingParams::merged",
    ][::core::mem::offset_of!(SelectOutstandingParams, merged) - 48usize];
    [
        "Offset of field: SelectOutstandingParams::patch_count",
    ][::core::mem::offset_of!(SelectOutstandingParams, patch_count) - 56usize];
    [
        "Offset of field: SelectOutstandingParams::spatial",
    ][::core::mem::offset_of!(SelectOutstandingParams, spatial) - 60usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectMergedParams {
    pub mix: SelectMix,
    pub cosines: *const f32,
    pub attention: *const f32,
    pub valid: *const u32,
    pub parts: *const SelectPart,
    pub ranks: *const u32,
    pub offsets: *const u32,
    pub rows: *const u32,
    pub merged: *const u32,
    pub added: *mut u32,
    pub partitions: u32,
    pub patch_count: u32,
    pub neighbours: u32,
    pub source: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of SelectMergedParams",
    ][::core::mem::size_of::<SelectMergedParams>() - 112usize];
    [
        "Alignment of SelectMergedParams",
    ][::core::mem::align_of::<SelectMergedParams>() - 8usize];
    [
        "Offset of field: SelectMergedParams::mix",
    ][::core::mem::offset_of!(SelectMergedParams, mix) - 0usize];
    [
        "Offset of field: SelectMergedParams::cosines",
    ][::core::mem::offset_of!(SelectMergedParams, cosines) - 24usize];
    [
        "Offset of field: SelectMergedParams::attention",
    ][::core::mem::offset_of!(SelectMergedParams, attention) - 32usize];
    [
        "Offset of field: SelectMergedParams::valid",
    ][::core::mem::offset_of!(SelectMergedParams, valid) - 40usize];
    [
        "Offset of field: SelectMergedParams::parts",
    ][::core::mem::offset_of!(SelectMergedParams, parts) - 48usize];
    [
        "Offset of field: SelectMergedParams::ranks",
    ][::core::mem::offset_of!(SelectMergedParams, ranks) - 56usize];
    [
        "Offset of field: SelectMergedParams::offsets",
    ][::core::mem::offset_of!(SelectMergedParams, offsets) - 64usize];
    [
        "Offset of field: SelectMergedParams::rows",
    ][::core::mem::offset_of!(SelectMergedParams, rows) - 72usize];
    [
        "Offset of field: SelectMergedParams::merged",
    ][::core::mem::offset_of!(SelectMergedParams, merged) - 80usize];
    [
        "Offset of field: SelectMergedParams::added",
    ][::core::mem::offset_of!(SelectMergedParams, added) - 88usize];
    [
        "Offset of field: SelectMergedParams::partitions",
    ][::core::mem::offset_of!(SelectMergedParams, partitions) - 96usize];
    [
        "Offset of field: SelectMergedParams::patch_count",
    ][::core::mem::offset_of!(SelectMergedParams, patch_count) - 100usize];
    [
        "Offset of field: SelectMergedParams::neighbours",
    ][::core::mem::offset_of!(SelectMergedParams, neighbours) - 104usize];
    [
        "Offset of field: SelectMergedParams::source",
    ][::core::mem::offset_of!(SelectMergedParams, source) - 108usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SpreadParams {
    pub cosines: *const f32,
    pub nearest: *mut f32,
    pub marks: *mut u32,
    pub count: u32,
    pub picks: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SpreadParams"][::core::mem::size_of::<SpreadParams>() - 32usize];
    ["Alignment of SpreadParams"][::core::mem::align_of::<SpreadParams>() - 8usize];
    [
        "Offset of field: SpreadParams::cosines",
    ][::core::mem::offset_of!(SpreadParams, cosines) - 0usize];
    [
        "Offset of field: SpreadParams::nearest",
    ][::core::mem::offset_of!(SpreadParams, nearest) - 8usize];
    [
        "Offset of field: SpreadParams::marks",
    ][::core::mem::offset_of!(SpreadParams, marks) - 16usize];
    [
        "Offset of field: SpreadParams::count",
    ][::core::mem::offset_of!(SpreadParams, count) - 24usize];
    [
        "Offset of field: SpreadParams::picks",
    ][::core::mem::offset_of!(SpreadParams, picks) - 28usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct CoverParams {
    pub scores: SelectScores,
    pub cosines: *const f32,
    pub valid: *const u32,
    pub parts: *const SelectPart,
    pub picks: *const u32,
    pub saliency: *mut f64,
    pub marks: *mut u32,
    pub flags: *mut u32,
    pub exponent: f64,
    pub patch_count: u32,
    pub prefix: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CoverParams"][::core::mem::size_of::<CoverParams>() - 112usize];
    ["Alignment of CoverParams"][::core::mem::align_of::<CoverParams>() - 8usize];
    [
        "Offset of field: CoverParams::scores",
    ][::core::mem::offset_of!(CoverParams, scores) - 0usize];
    [
        "Offset of field: CoverParams::cosines",
    ][::core::mem::offset_of!(CoverParams, cosines) - 40usize];
    [
        "Offset of field: CoverParams::valid",
    ][::core::mem::offset_of!(CoverParams, valid) - 48usize];
    [
        "Offset of field: CoverParams::parts",
    ][::core::mem::offset_of!(CoverParams, parts) - 56usize];
    [
        "Offset of field: CoverParams::picks",
    ][::core::mem::offset_of!(CoverParams, picks) - 64usize];
    [
        "Offset of field: CoverParams::saliency",
    ][::core::mem::offset_of!(CoverParams, saliency) - 72usize];
    [
        "Offset of field: CoverParams::marks",
    ][::core::mem::offset_of!(CoverParams, marks) - 80usize];
    [
        "Offset of field: CoverParams::flags",
    ][::core::mem::offset_of!(CoverParams, flags) - 88usize];
    [
        "Offset of field: CoverParams::exponent",
    ][::core::mem::offset_of!(CoverParams, exponent) - 96usize];
    [
        "Offset of field: CoverParams::patch_count",
    ][::core::mem::offset_of!(CoverParams, patch_count) - 104usize];
    [
        "Offset of field: CoverParams::prefix",
    ][::core::mem::offset_of!(CoverParams, prefix) - 108usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SelectMarkedParams {
    pub marks: *const u32,
    pub valid: *const u32,
    pub parts: *const SelectPart,
    pub ranks: *mut u32,
    pub counts: *mut u32,
    pub patch_count: u32,
    pub prefix: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of SelectMarkedParams",
    ][::core::mem::size_of::<SelectMarkedParams>() - 48usize];
    [
        "Alignment of SelectMarkedParams",
    ][::core::mem::align_of::<SelectMarkedParams>() - 8usize];
    [
        "Offset of field: SelectMarkedParams::marks",
    ][::core::mem::offset_of!(SelectMarkedParams, marks) - 0usize];
    [
        "Offset of field: SelectMarkedParams::valid",
    ][::core::mem::offset_of!(SelectMarkedParams, valid) - 8usize];
    [
        "Offset of field: SelectMarkedParams::parts",
    ][::core::mem::offset_of!(SelectMarkedParams, parts) - 16usize];
    [
        "Offset of field: SelectMarkedParams::ranks",
    ][::core::mem::offset_of!(SelectMarkedParams, ranks) - 24usize];
    [
        "Offset of field: SelectMarkedParams::counts",
    ][::core::mem::offset_of!(SelectMarkedParams, counts) - 32usize];
    [
        "Offset of field: SelectMarkedParams::patch_count",
    ][::core::mem::offset_of!(SelectMarkedParams, patch_count) - 40usize];
    [
        "Offset of field: SelectMarkedParams::prefix",
    ][::core::mem::offset_of!(SelectMarkedParams, prefix) - 44usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SampleGreedyParams {
    pub logits: *const f32,
    pub tokens: *mut u32,
    pub flags: *mut u32,
    pub cols: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of SampleGreedyParams",
    ][::core::mem::size_of::<SampleGreedyParams>() - 32usize];
    [
        "Alignment of SampleGreedyParams",
    ][::core::mem::align_of::<SampleGreedyParams>() - 8usize];
    [
        "Offset of field: SampleGreedyParams::logits",
    ][::core::mem::offset_of!(SampleGreedyParams, logits) - 0usize];
    [
        "Offset of field: SampleGreedyParams::tokens",
    ][::core::mem::offset_of!(SampleGreedyParams, tokens) - 8usize];
    [
        "Offset of field: SampleGreedyParams::flags",
    ][::core::mem::offset_of!(SampleGreedyParams, flags) - 16usize];
    [
        "Offset of field: SampleGreedyParams::cols",
    ][::core::mem::offset_of!(SampleGreedyParams, cols) - 24usize];
    [
        "Offset of field: SampleGreedyParams::reserved",
    ][::core::mem::offset_of!(SampleGreedyParams, reserved) - 28usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SampleHow {
    pub seed: u64,
    pub step: u64,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SampleHow"][::core::mem::size_of::<SampleHow>() - 32usize];
    ["Alignment of SampleHow"][::core::mem::align_of::<SampleHow>() - 8usize];
    [
        "Offset of field: SampleHow::seed",
    ][::core::mem::offset_of!(SampleHow, seed) - 0usize];
    [
        "Offset of field: SampleHow::step",
    ][::core::mem::offset_of!(SampleHow, step) - 8usize];
    [
        "Offset of field: SampleHow::temperature",
    ][::core::mem::offset_of!(SampleHow, temperature) - 16usize];
    [
        "Offset of field: SampleHow::top_p",
    ][::core::mem::offset_of!(SampleHow, top_p) - 20usize];
    [
        "Offset of field: SampleHow::top_k",
    ][::core::mem::offset_of!(SampleHow, top_k) - 24usize];
    [
        "Offset of field: SampleHow::reserved",
    ][::core::mem::offset_of!(SampleHow, reserved) - 28usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SampleDrawParams {
    pub logits: *const f32,
    pub how: *const SampleHow,
    pub weights: *mut u64,
    pub tokens: *mut u32,
    pub flags: *mut u32,
    pub cols: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SampleDrawParams"][::core::mem::size_of::<SampleDrawParams>() - 48usize];
    [
        "Alignment of SampleDrawParams",
    ][::core::mem::align_of::<SampleDrawParams>() - 8usize];
    [
        "Offset of field: SampleDrawParams::logits",
    ][::core::mem::offset_of!(SampleDrawParams, logits) - 0usize];
    [
        "Offset of field: SampleDrawParams::how",
    ][::core::mem::offset_of!(SampleDrawParams, how) - 8usize];
    [
        "Offset of field: SampleDrawParams::weights",
    ][::core::mem::offset_of!(SampleDrawParams, weights) - 16usize];
    [
        "Offset of field: SampleDrawParams::tokens",
    ][::core::mem::offset_of!(SampleDrawParams, tokens) - 24usize];
    [
        "Offset of field: SampleDrawParams::flags",
    ][::core::mem::offset_of!(SampleDrawParams, flags) - 32usize];
    [
        "Offset of field: SampleDrawParams::cols",
    ][::core::mem::offset_of!(SampleDrawParams, cols) - 40usize];
    [
        "Offset of field: SampleDrawParams::reserved",
    ][::core::mem::offset_of!(SampleDrawParams, reserved) - 44usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SynthParams {
    pub out: *mut ::core::ffi::c_void,
    pub key: u64,
    pub rows: u32,
    pub cols: u32,
    pub stride: u32,
    pub mean: f32,
    pub reach: f32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SynthParams"][::core::mem::size_of::<SynthParams>() - 40usize];
    ["Alignment of SynthParams"][::core::mem::align_of::<SynthParams>() - 8usize];
    [
        "Offset of field: SynthParams::out",
    ][::core::mem::offset_of!(SynthParams, out) - 0usize];
    [
        "Offset of field: SynthParams::key",
    ][::core::mem::offset_of!(SynthParams, key) - 8usize];
    [
        "Offset of field: SynthParams::rows",
    ][::core::mem::offset_of!(SynthParams, rows) - 16usize];
    [
        "Offset of field: SynthParams::cols",
    ][::core::mem::offset_of!(SynthParams, cols) - 20usize];
    [
        "Offset of field: SynthParams::stride",
    ][::core::mem::offset_of!(SynthParams, stride) - 24usize];
    [
        "Offset of field: SynthParams::mean",
    ][::core::mem::offset_of!(SynthParams, mean) - 28usize];
    [
        "Offset of field: SynthParams::reach",
    ][::core::mem::offset_of!(SynthParams, reach) - 32usize];
    [
        "Offset of field: SynthParams::reserved",
    ][::core::mem::offset_of!(SynthParams, reserved) - 36usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct GemvParams {
    pub x: *const ::core::ffi::c_void,
    pub norm: *const f32,
    pub weights: [*const ::core::ffi::c_void; 3usize],
    pub biases: [*const f32; 3usize],
    pub outs: [*mut ::core::ffi::c_void; 3usize],
    pub cols: [u32; 3usize],
    pub rows: u32,
    pub inner: u32,
    pub x_stride: u32,
    pub w_stride: u32,
    pub activation: u32,
    pub epilogue: u32,
    pub inverse_inner: f32,
    pub eps: f32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of GemvParams"][::core::mem::size_of::<GemvParams>() - 136usize];
    ["Alignment of GemvParams"][::core::mem::align_of::<GemvParams>() - 8usize];
    ["Offset of field: GemvParams::x"][::core::mem::offset_of!(GemvParams, x) - 0usize];
    [
        "Offset of field: GemvParams::norm",
    ][::core::mem::offset_of!(GemvParams, norm) - 8usize];
    [
        "Offset of field: GemvParams::weights",
    ][::core::mem::offset_of!(GemvParams, weights) - 16usize];
    [
        "Offset of field: GemvParams::biases",
    ][::core::mem::offset_of!(GemvParams, biases) - 40usize];
    [
        "Offset of field: GemvParams::outs",
    ][::core::mem::offset_of!(GemvParams, outs) - 64usize];
    [
        "Offset of field: GemvParams::cols",
    ][::core::mem::offset_of!(GemvParams, cols) - 88usize];
    [
        "Offset of field: GemvParams::rows",
    ][::core::mem::offset_of!(GemvParams, rows) - 100usize];
    [
        "Offset of field: GemvParams::inner",
    ][::core::mem::offset_of!(GemvParams, inner) - 104usize];
    [
        "Offset of field: GemvParams::x_stride",
    ][::core::mem::offset_of!(GemvParams, x_stride) - 108usize];
    [
        "Offset of field: GemvParams::w_stride",
    ][::core::mem::offset_of!(GemvParams, w_stride) - 112usize];
    [
        "Offset of field: GemvParams::activation",
    ][::core::mem::offset_of!(GemvParams, activation) - 116usize];
    [
        "Offset of field: GemvParams::epilogue",
    ][::core::mem::offset_of!(GemvParams, epilogue) - 120usize];
    [
        "Offset of field: GemvParams::inverse_inner",
    ][::core::mem::offset_of!(GemvParams, inverse_inner) - 124usize];
    [
        "Offset of field: GemvParams::eps",
    ][::core::mem::offset_of!(GemvParams, eps) - 128usize];
    [
        "Offset of field: GemvParams::reserved",
    ][::core::mem::offset_of!(GemvParams, reserved) - 132usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct QuantizeParams {
    pub x: *const ::core::ffi::c_void,
    pub norm: *const f32,
    pub codes: *mut i8,
    pub scales: *mut f32,
    pub rows: u32,
    pub cols: u32,
    pub x_stride: u32,
    pub stride: u32,
    pub inverse_cols: f32,
    pub eps: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of QuantizeParams"][::core::mem::size_of::<QuantizeParams>() - 56usize];
    ["Alignment of QuantizeParams"][::core::mem::align_of::<QuantizeParams>() - 8usize];
    [
        "Offset of field: QuantizeParams::x",
    ][::core::mem::offset_of!(QuantizeParams, x) - 0usize];
    [
        "Offset of field: QuantizeParams::norm",
    ][::core::mem::offset_of!(QuantizeParams, norm) - 8usize];
    [
        "Offset of field: QuantizeParams::codes",
    ][::core::mem::offset_of!(QuantizeParams, codes) - 16usize];
    [
        "Offset of field: QuantizeParams::scales",
    ][::core::mem::offset_of!(QuantizeParams, scales) - 24usize];
    [
        "Offset of field: QuantizeParams::rows",
    ][::core::mem::offset_of!(QuantizeParams, rows) - 32usize];
    [
        "Offset of field: QuantizeParams::cols",
    ][::core::mem::offset_of!(QuantizeParams, cols) - 36usize];
    [
        "Offset of field: QuantizeParams::x_stride",
    ][::core::mem::offset_of!(QuantizeParams, x_stride) - 40usize];
    [
        "Offset of field: QuantizeParams::stride",
    ][::core::mem::offset_of!(QuantizeParams, stride) - 44usize];
    [
        "Offset of field: QuantizeParams::inverse_cols",
    ][::core::mem::offset_of!(QuantizeParams, inverse_cols) - 48usize];
    [
        "Offset of field: QuantizeParams::eps",
    ][::core::mem::offset_of!(QuantizeParams, eps) - 52usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct FactorScales {
    pub weights: [*const ::core::ffi::c_void; 3usize],
    pub rows: *const f32,
    pub group_bits: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of FactorScales"][::core::mem::size_of::<FactorScales>() - 40usize];
    ["Alignment of FactorScales"][::core::mem::align_of::<FactorScales>() - 8usize];
    [
        "Offset of field: FactorScales::weights",
    ][::core::mem::offset_of!(FactorScales, weights) - 0usize];
    [
        "Offset of field: FactorScales::rows",
    ][::core::mem::offset_of!(FactorScales, rows) - 24usize];
    [
        "Offset of field: FactorScales::group_bits",
    ][::core::mem::offset_of!(FactorScales, group_bits) - 32usize];
    [
        "Offset of field: FactorScales::reserved",
    ][::core::mem::offset_of!(FactorScales, reserved) - 36usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ScaledGemmParams {
    pub product: GemmParams,
    pub scales: FactorScales,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ScaledGemmParams"][::core::mem::size_of::<ScaledGemmParams>() - 184usize];
    [
        "Alignment of ScaledGemmParams",
    ][::core::mem::align_of::<ScaledGemmParams>() - 8usize];
    [
        "Offset of field: ScaledGemmParams::product",
    ][::core::mem::offset_of!(ScaledGemmParams, product) - 0usize];
    [
        "Offset of field: ScaledGemmParams::scales",
    ][::core::mem::offset_of!(ScaledGemmParams, scales) - 144usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ScaledGemvParams {
    pub product: GemvParams,
    pub scales: FactorScales,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ScaledGemvParams"][::core::mem::size_of::<ScaledGemvParams>() - 176usize];
    [
        "Alignment of ScaledGemvParams",
    ][::core::mem::align_of::<ScaledGemvParams>() - 8usize];
    [
        "Offset of field: ScaledGemvParams::product",
    ][::core::mem::offset_of!(ScaledGemvParams, product) - 0usize];
    [
        "Offset of field: ScaledGemvParams::scales",
    ][::core::mem::offset_of!(ScaledGemvParams, scales) - 136usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct CodedRows {
    pub codes: *mut i8,
    pub scales: *mut f32,
    pub done: *mut u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CodedRows"][::core::mem::size_of::<CodedRows>() - 24usize];
    ["Alignment of CodedRows"][::core::mem::align_of::<CodedRows>() - 8usize];
    [
        "Offset of field: CodedRows::codes",
    ][::core::mem::offset_of!(CodedRows, codes) - 0usize];
    [
        "Offset of field: CodedRows::scales",
    ][::core::mem::offset_of!(CodedRows, scales) - 8usize];
    [
        "Offset of field: CodedRows::done",
    ][::core::mem::offset_of!(CodedRows, done) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct CountedQuantizeParams {
    pub rows: QuantizeParams,
    pub done: *mut u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of CountedQuantizeParams",
    ][::core::mem::size_of::<CountedQuantizeParams>() - 64usize];
    [
        "Alignment of CountedQuantizeParams",
    ][::core::mem::align_of::<CountedQuantizeParams>() - 8usize];
    [
        "Offset of field: CountedQuantizeParams::rows",
    ][::core::mem::offset_of!(CountedQuantizeParams, rows) - 0usize];
    [
        "Offset of field: CountedQuantizeParams::done",
    ][::core::mem::offset_of!(CountedQuantizeParams, done) - 56usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct CodedGemvParams {
    pub product: ScaledGemvParams,
    pub coded: CodedRows,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CodedGemvParams"][::core::mem::size_of::<CodedGemvParams>() - 200usize];
    [
        "Alignment of CodedGemvParams",
    ][::core::mem::align_of::<CodedGemvParams>() - 8usize];
    [
        "Offset of field: CodedGemvParams::product",
    ][::core::mem::offset_of!(CodedGemvParams, product) - 0usize];
    [
        "Offset of field: CodedGemvParams::coded",
    ][::core::mem::offset_of!(CodedGemvParams, coded) - 176usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct CodedDecodeParams {
    pub step: DecodeParams,
    pub coded: CodedRows,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of CodedDecodeParams",
    ][::core::mem::size_of::<CodedDecodeParams>() - 168usize];
    [
        "Alignment of CodedDecodeParams",
    ][::core::mem::align_of::<CodedDecodeParams>() - 8usize];
    [
        "Offset of field: CodedDecodeParams::step",
    ][::core::mem::offset_of!(CodedDecodeParams, step) - 0usize];
    [
        "Offset of field: CodedDecodeParams::coded",
    ][::core::mem::offset_of!(CodedDecodeParams, coded) - 144usize];
};
