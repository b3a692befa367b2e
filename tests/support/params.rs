//! Parameters of the product kernels, as in kernels/abi.h. Kernels without scales take the first part of them.
#![allow(dead_code)] // each test file uses a part

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Scales {
    pub weights: [u64; 3],
    pub rows: u64,
    pub group_bits: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct GemmParams {
    pub x: u64,
    pub weights: [u64; 3],
    pub biases: [u64; 3],
    pub outs: [u64; 3],
    pub sums: u64,
    pub cols: [u32; 3],
    pub out_strides: [u32; 3],
    pub rows: u32,
    pub inner: u32,
    pub x_stride: u32,
    pub w_stride: u32,
    pub parts: u32,
    pub activation: u32,
    pub epilogue: u32,
    pub reserved: u32,
    pub scales: Scales,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct GemvParams {
    pub x: u64,
    pub norm: u64,
    pub weights: [u64; 3],
    pub biases: [u64; 3],
    pub outs: [u64; 3],
    pub cols: [u32; 3],
    pub rows: u32,
    pub inner: u32,
    pub x_stride: u32,
    pub w_stride: u32,
    pub activation: u32,
    pub epilogue: u32,
    pub inverse_inner: f32,
    pub eps: f32,
    pub reserved: u32,
    pub scales: Scales,
    /// Which only kernels with int8 weights take.
    pub coded: Coded,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Coded {
    pub codes: u64,
    pub scales: u64,
    pub done: u64,
}

#[repr(C)]
pub struct QuantizeParams {
    pub x: u64,
    pub norm: u64,
    pub codes: u64,
    pub scales: u64,
    pub rows: u32,
    pub cols: u32,
    pub x_stride: u32,
    pub stride: u32,
    pub inverse_cols: f32,
    pub eps: f32,
    pub done: u64,
}
