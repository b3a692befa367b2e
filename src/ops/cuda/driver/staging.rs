//! Uploads weights from the mapped files through pinned memory, converting and padding them on the way.
//!
//! There are two pinned buffers: while the device fetches one, the CPU fills the other.

use crate::Result;
use crate::checkpoint::Tensor;
use crate::format::Format;
use crate::ops::cuda::driver::error::refused;
use crate::ops::cuda::driver::queue::Queue;
use crate::ops::cuda::scratch;
use cudarc::driver::CudaContext;
use cudarc::driver::result::{self, event};
use cudarc::driver::sys::{CUevent, CUevent_flags};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes of a pinned buffer: large enough that the start of a copy takes little of its time.
const SLOT: usize = 8 << 20;

/// Numbers that a thread converts at a time.
const PIECE: usize = 1 << 14;

/// The two pinned buffers.
#[derive(Debug)]
pub struct Staging {
    context: Arc<CudaContext>,
    slots: Vec<Slot>,
    next: usize,
}

#[derive(Debug)]
struct Slot {
    memory: *mut c_void,
    /// Event after the last copy from it.
    fetched: CUevent,
    waiting: bool,
}

// SAFETY: pinned memory and events belong to the context, not to a thread.
unsafe impl Send for Staging {}

/// Layout of a tensor on the device: `rows` of `stride` numbers, of which the first `cols` are the tensor's and the
/// others are zero.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub address: u64,
    /// Address of the scales of integer weights.
    pub scales: u64,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
    pub format: Format,
}

impl Staging {
    /// Allocates the pinned memory.
    ///
    /// # Errors
    /// When the driver refuses it.
    pub fn new(queue: &Queue) -> Result<Self> {
        queue.stream()?;
        let mut staging = Self { context: queue.context().clone(), slots: Vec::new(), next: 0 };
        for _ in 0..2 {
            // SAFETY: a plain allocation.
            let memory = unsafe { result::malloc_host(SLOT, 0) }
                .map_err(|e| refused(&format!("{SLOT} bytes of pinned memory"), e))?;
            let fetched = match event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING) {
                Ok(fetched) => fetched,
                Err(error) => {
                    // SAFETY: allocated above, not used by anyone.
                    let _ = unsafe { result::free_host(memory) };
                    return Err(refused("an event", error));
                }
            };
            staging.slots.push(Slot { memory, fetched, waiting: false });
        }
        Ok(staging)
    }

    /// Enqueues the copy of a tensor.
    ///
    /// # Safety
    /// The place must be device memory of that size, allocated until the copy is done.
    ///
    /// # Errors
    /// When the driver refuses.
    pub unsafe fn copy(&mut self, queue: &Queue, tensor: &Tensor, place: Place) -> Result<()> {
        if place.format.is_integer() {
            // SAFETY: upheld by this function's own contract.
            return unsafe { self.copy_integers(queue, tensor, place) };
        }
        let size = place.format.bytes(1, 1);
        let all = place.rows * place.stride * size;
        // SAFETY: as above.
        unsafe {
            self.send(queue, place.address, all, |at, out| fill(tensor, place, at / size, out))
        }
    }

    /// [`Staging::copy`] for integer weights. Where they are quantized on the way, the host holds one buffer of rows at
    /// a time.
    unsafe fn copy_integers(&mut self, queue: &Queue, tensor: &Tensor, place: Place) -> Result<()> {
        let Place { rows, cols, stride, format, .. } = place;
        let row = format.code_bytes(1, stride);
        let panel = if tensor.is_row_by_row() { (SLOT / row.max(1)).max(1) } else { rows.max(1) };
        for first in (0..rows).step_by(panel) {
            let now = first..rows.min(first + panel);
            let scales = format.scales(first, cols) * scratch::shared(format);
            let place = Place {
                address: place.address + (first * row) as u64,
                scales: place.scales + scales as u64,
                rows: now.len(),
                ..place
            };
            let words = tensor.clone().rows(now).to_words()?;
            // SAFETY: upheld by this function's own contract: the place is a part of `place`.
            unsafe { self.copy_panel(queue, &words, place)? };
        }
        Ok(())
    }

    /// Copies rows of integers in their format: the scales and zero points of groups, then the codes in padded rows.
    unsafe fn copy_panel(&mut self, queue: &Queue, words: &[u32], place: Place) -> Result<()> {
        let Place { address, scales, rows, cols, stride, format } = place;
        let bytes = &bytemuck::cast_slice::<u32, u8>(words)[..format.bytes(rows, cols)];
        let (numbers, codes) = bytes.split_at(bytes.len() - format.code_bytes(rows, cols));
        let [row, padded] = [cols, stride].map(|count| format.code_bytes(1, count));
        let fill = |at: usize, out: &mut [u8]| {
            let mut at = at;
            let mut out = out;
            while !out.is_empty() {
                let (of, inside) = (at / padded, at % padded);
                let (now, rest) = out.split_at_mut(out.len().min(padded - inside));
                let there = row.saturating_sub(inside).min(now.len());
                now[..there].copy_from_slice(&codes[of * row + inside.min(row)..][..there]);
                now[there..].fill(0);
                at += now.len();
                out = rest;
            }
        };
        let zeros = format.zeros(rows, cols);
        let (of_groups, zeros) = numbers.split_at(numbers.len() - zeros);
        // SAFETY: upheld by this function's own contract.
        unsafe {
            if zeros.is_empty() {
                self.send(queue, scales, of_groups.len(), |at, out| {
                    out.copy_from_slice(&of_groups[at..][..out.len()]);
                })?;
            } else {
                self.send(queue, scales, zeros.len() * size_of::<u32>(), |at, out| {
                    zero_points(at / size_of::<u32>(), of_groups, zeros, out);
                })?;
            }
            self.send(queue, address, rows * padded, fill)
        }
    }

    /// Enqueues a copy of `all` bytes to `to`, which `fill` writes piece by piece, given the offset of each.
    unsafe fn send(
        &mut self,
        queue: &Queue,
        address: u64,
        all: usize,
        fill: impl Fn(usize, &mut [u8]),
    ) -> Result<()> {
        let stream = queue.stream()?;
        for first in (0..all).step_by(SLOT) {
            let count = SLOT.min(all - first);
            let index = self.next;
            let slot = &mut self.slots[index];
            if slot.waiting {
                // SAFETY: the event lives as long as `self`.
                unsafe { event::synchronize(slot.fetched) }
                    .map_err(|e| refused("to wait for a copy", e))?;
                slot.waiting = false;
            }
            // SAFETY: the buffer has SLOT bytes, and the device has fetched its last content.
            let bytes = unsafe { std::slice::from_raw_parts_mut(slot.memory.cast::<u8>(), count) };
            fill(first, bytes);
            // SAFETY: the destination is upheld by this function's own contract; the buffer is not reused before the
            // event shows that it was fetched.
            unsafe {
                result::memcpy_htod_async(address + first as u64, bytes, stream)
                    .map_err(|e| refused("a copy to the device", e))?;
                slot.waiting = true;
                event::record(slot.fetched, stream)
                    .map_err(|e| refused("to record an event", e))?;
            }
            self.next = (index + 1) % self.slots.len();
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A context that cannot be bound is lost, and its memory with it.
        if self.context.bind_to_thread().is_err() {
            return;
        }
        for slot in &self.slots {
            // SAFETY: created by `new`; freeing waits for copies in progress. An error here was reported before.
            unsafe {
                if slot.waiting {
                    let _ = event::synchronize(slot.fetched);
                }
                let _ = event::destroy(slot.fetched);
                let _ = result::free_host(slot.memory);
            }
        }
    }
}

/// Writes scales and zero points of groups, from group `first` on, in the layout of kernels/groups.cuh: one word for
/// each group, with the scale in the lower half and the upper half of 1 + zero / 16 as f32 in the upper half.
fn zero_points(first: usize, scales: &[u8], zeros: &[u8], out: &mut [u8]) {
    for (i, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let zero = bf16::from_f32(1.0 + f32::from(zeros[first + i]) / 16.0).to_le_bytes();
        let scale = &scales[2 * (first + i)..][..2];
        *out = [scale[0], scale[1], zero[0], zero[1]];
    }
}

/// Writes numbers of the padded matrix, from number `first` on, as many as `out` holds.
fn fill(tensor: &Tensor, place: Place, first: usize, out: &mut [u8]) {
    let size = place.format.bytes(1, 1);
    out.par_chunks_mut(PIECE * size).enumerate().for_each(|(piece, out)| {
        let mut at = first + piece * PIECE;
        let mut out = out;
        while !out.is_empty() {
            let (row, col) = (at / place.stride, at % place.stride);
            let inside = col < place.cols;
            let run = if inside { place.cols - col } else { place.stride - col };
            let count = run.min(out.len() / size);
            let (now, rest) = out.split_at_mut(count * size);
            if inside {
                convert(tensor, row * place.cols + col, place.format, now);
            } else {
                now.fill(0);
            }
            out = rest;
            at += count;
        }
    });
}

/// Converts numbers of a tensor, from number `first` on, to another format.
fn convert(tensor: &Tensor, first: usize, format: Format, out: &mut [u8]) {
    /// Numbers converted at a time, in registers and the level-1 cache.
    const LANES: usize = 512;
    let [stored, made] = [tensor.format, format].map(|format| format.bytes(1, 1));
    let count = out.len() / made;
    let bytes = &tensor.bytes()[first * stored..][..count * stored];
    if tensor.format == format {
        out.copy_from_slice(bytes);
        return;
    }
    // Numbers in the file may be unaligned, so they are copied to aligned arrays.
    let (mut half, mut brain, mut wide) =
        ([f16::ZERO; LANES], [bf16::ZERO; LANES], [0.0f32; LANES]);
    let out = out.chunks_mut(LANES * made);
    for (from, out) in bytes.chunks(LANES * stored).zip(out) {
        let count = from.len() / stored;
        match tensor.format {
            Format::F16 => {
                bytemuck::cast_slice_mut(&mut half[..count]).copy_from_slice(from);
                half[..count].convert_to_f32_slice(&mut wide[..count]);
            }
            Format::Bf16 => {
                bytemuck::cast_slice_mut(&mut brain[..count]).copy_from_slice(from);
                brain[..count].convert_to_f32_slice(&mut wide[..count]);
            }
            Format::F32 => bytemuck::cast_slice_mut(&mut wide[..count]).copy_from_slice(from),
            _ => unreachable!("integers are copied as they are"),
        }
        match format {
            Format::F32 => out.copy_from_slice(bytemuck::cast_slice(&wide[..count])),
            Format::F16 => {
                half[..count].convert_from_f32_slice(&wide[..count]);
                out.copy_from_slice(bytemuck::cast_slice(&half[..count]));
            }
            Format::Bf16 => {
                brain[..count].convert_from_f32_slice(&wide[..count]);
                out.copy_from_slice(bytemuck::cast_slice(&brain[..count]));
            }
            _ => unreachable!("integers are copied as they are"),
        }
    }
}
