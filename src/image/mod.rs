//! From an encoded image to the bytes the vision tower sees.

/// Where the picture lies: everything that selection and preprocessing derive from its size alone. Pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Width of the image as decoded.
    pub width: usize,
    /// Height of the image as decoded.
    pub height: usize,
    /// Side of a partition.
    pub side: usize,
    /// Sub-images as (rows, columns); `None` for a model without sub-images.
    pub grid: Option<(usize, usize)>,
    /// Size (height, width) of the resized picture on the canvas of `rows·side × cols·side`;
    /// without sub-images: of the resized picture before the centre crop.
    pub fit: (usize, usize),
}
