//! How do RGB bytes become the numbers that a model was trained on? Channel order, layout and normalisation.

use super::manifest::{Channels, ElementType, Layout, Manifest};
use crate::domain::InputSize;

/// A batch in the model's own form; the buffer is kept from batch to batch.
#[derive(Debug)]
pub(super) enum TensorBuffer {
    /// Bytes, for models that normalise by themselves.
    Bytes(Vec<u8>),
    /// Normalised numbers.
    Floats(Vec<f32>),
}

/// Writes pictures into tensors as a manifest wants them.
#[derive(Debug)]
pub(super) struct TensorWriter {
    input: InputSize,
    layout: Layout,
    channels: Channels,
    element_type: ElementType,
    /// The normalised value of each byte, for each channel in the tensor's order: 3 KiB instead of two operations.
    tables: Box<[[f32; 256]; 3]>,
}

impl TensorWriter {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let (mean, std) = (manifest.mean(), manifest.std());
        let mut tables = Box::new([[0.0; 256]; 3]);
        for (channel, table) in tables.iter_mut().enumerate() {
            for (byte, value) in table.iter_mut().enumerate() {
                *value = (byte as f32 - mean[channel]) / std[channel];
            }
        }
        Self {
            input: manifest.input(),
            layout: manifest.layout(),
            channels: manifest.channels(),
            element_type: manifest.element_type(),
            tables,
        }
    }

    /// An empty buffer of the right kind.
    pub(super) fn buffer(&self) -> TensorBuffer {
        match self.element_type {
            ElementType::U8 => TensorBuffer::Bytes(Vec::new()),
            ElementType::F32 => TensorBuffer::Floats(Vec::new()),
        }
    }

    /// The tensor's shape for `batch` pictures.
    pub(super) fn shape(&self, batch: usize) -> [usize; 4] {
        let (height, width) = (self.input.height as usize, self.input.width as usize);
        match self.layout {
            Layout::Nhwc => [batch, height, width, 3],
            Layout::Nchw => [batch, 3, height, width],
        }
    }

    /// Whether a single picture is already what the model wants, so that it need not be copied.
    pub(super) fn is_identity(&self) -> bool {
        self.element_type == ElementType::U8 && self.layout == Layout::Nhwc && self.channels == Channels::Rgb
    }

    /// Fills `buffer` with `pictures`, and with zeros up to `padded` pictures.
    pub(super) fn write(&self, pictures: &[&[u8]], padded: usize, buffer: &mut TensorBuffer) {
        let total = self.input.bytes() * padded.max(pictures.len());
        match buffer {
            TensorBuffer::Bytes(bytes) => {
                bytes.resize(total, 0);
                self.write_bytes(pictures, bytes);
            }
            TensorBuffer::Floats(floats) => {
                floats.resize(total, 0.0);
                self.write_floats(pictures, floats);
            }
        }
    }

    /// Fills `out` with `pictures`, and what is left of it with zeros.
    pub(super) fn write_bytes(&self, pictures: &[&[u8]], out: &mut [u8]) {
        let size = self.input.bytes();
        for (rgb, out) in pictures.iter().zip(out.chunks_exact_mut(size)) {
            if self.is_identity() {
                out.copy_from_slice(rgb);
            } else {
                self.arrange(rgb, out, |_, byte| byte);
            }
        }
        out.iter_mut().skip(size * pictures.len()).for_each(|rest| *rest = 0);
    }

    /// Fills `out` with `pictures`, normalised, and what is left of it with zeros.
    pub(super) fn write_floats(&self, pictures: &[&[u8]], out: &mut [f32]) {
        let size = self.input.bytes();
        for (rgb, out) in pictures.iter().zip(out.chunks_exact_mut(size)) {
            self.arrange(rgb, out, |channel, byte| self.tables[channel][usize::from(byte)]);
        }
        out.iter_mut().skip(size * pictures.len()).for_each(|rest| *rest = 0.0);
    }

    /// One picture, with `value(channel, byte)` in the place that layout and channel order ask for.
    fn arrange<T>(&self, rgb: &[u8], out: &mut [T], value: impl Fn(usize, u8) -> T) {
        let source: [usize; 3] = match self.channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
        };
        match self.layout {
            Layout::Nhwc => {
                for (pixel, out) in rgb.chunks_exact(3).zip(out.chunks_exact_mut(3)) {
                    for channel in 0..3 {
                        out[channel] = value(channel, pixel[source[channel]]);
                    }
                }
            }
            Layout::Nchw => {
                for (channel, plane) in out.chunks_exact_mut(rgb.len() / 3).enumerate() {
                    for (pixel, out) in rgb.chunks_exact(3).zip(plane) {
                        *out = value(channel, pixel[source[channel]]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pixels, (1, 2, 3) and (4, 5, 6).
    const RGB: &[u8] = &[1, 2, 3, 4, 5, 6];

    fn written(layout: &str, dtype: &str, channels: &str, normalisation: &str, padded: usize) -> TensorBuffer {
        let manifest = Manifest::parse(&format!(
            "name = \"m\"\nfile = \"m.onnx\"\nsha256 = \"{}\"\nlicence = \"CC0-1.0\"\nsource = \"here\"\n\
             [input]\nname = \"x\"\nlayout = \"{layout}\"\ndtype = \"{dtype}\"\nwidth = 2\nheight = 1\n\
             channels = \"{channels}\"\nfit = \"stretch\"\n{normalisation}\n[output]\nname = \"y\"\ndims = 4",
            "0".repeat(64)
        ))
        .unwrap();
        let writer = TensorWriter::new(&manifest);
        let mut buffer = writer.buffer();
        writer.write(&[RGB, RGB], padded, &mut buffer);
        buffer
    }

    #[test]
    fn bytes_are_passed_on() {
        let TensorBuffer::Bytes(bytes) = written("nhwc", "u8", "rgb", "", 3) else { panic!("bytes were expected") };
        assert_eq!(bytes, [RGB, RGB, &[0; 6]].concat());
    }

    #[test]
    fn bytes_are_rearranged() {
        let TensorBuffer::Bytes(bytes) = written("nchw", "u8", "bgr", "", 2) else { panic!("bytes were expected") };
        assert_eq!(bytes, [3, 6, 2, 5, 1, 4, 3, 6, 2, 5, 1, 4]);
    }

    #[test]
    fn mean_and_std_follow_the_order_of_the_tensor() {
        let normalisation = "mean = [1.0, 2.0, 3.0]\nstd = [1.0, 2.0, 4.0]";
        let TensorBuffer::Floats(floats) = written("nchw", "f32", "bgr", normalisation, 0) else {
            panic!("floats were expected")
        };
        assert_eq!(floats[..6], [2.0, 5.0, 0.0, 1.5, -0.5, 0.25]);
        let TensorBuffer::Floats(floats) = written("nhwc", "f32", "rgb", normalisation, 0) else {
            panic!("floats were expected")
        };
        assert_eq!(floats[6..], [0.0, 0.0, 0.0, 3.0, 1.5, 0.75]);
    }
}
