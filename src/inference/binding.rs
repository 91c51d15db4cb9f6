//! How do pictures get to a device without being copied twice? Into memory that the device reads from and writes to by
//! itself: page-locked memory, which the driver need not copy aside before it sends it.
//!
//! There is one set of buffers for each batch size, made when it first occurs; batches come in few sizes
//! ([`batch::bucket`](super::batch::bucket)), so that there are few. The same code runs with ordinary memory, which is
//! how it is tested where there is no device.

use std::collections::HashMap;

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, TensorElementType};

use super::manifest::ElementType;
use super::tensor::TensorWriter;

/// Whose memory the buffers are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// Ordinary memory.
    #[cfg_attr(not(test), expect(dead_code, reason = "what runs on the processor needs no buffers of its own"))]
    Processor,
    /// Page-locked memory of the graphics device with this number.
    Pinned(i32),
}

/// Buffers of a session, by the number of pictures that they hold.
#[derive(Debug)]
pub(super) struct Bindings {
    memory: Memory,
    element_type: ElementType,
    sizes: HashMap<usize, Bound>,
}

/// The buffers for one batch size.
#[derive(Debug)]
struct Bound {
    binding: IoBinding,
    input: DynTensor,
}

impl Bindings {
    pub(super) fn new(memory: Memory, element_type: ElementType) -> Self {
        Self { memory, element_type, sizes: HashMap::new() }
    }

    /// Runs `session` on `pictures`, filled up to `batch`, and hands the output `output_name` to `read`.
    pub(super) fn run<T>(
        &mut self,
        session: &mut Session,
        (input_name, output_name): (&str, &str),
        writer: &TensorWriter,
        (pictures, batch): (&[&[u8]], usize),
        read: impl FnOnce(&[f32]) -> T,
    ) -> ort::Result<T> {
        if !self.sizes.contains_key(&batch) {
            let bound = self.bind(session, output_name, writer.shape(batch))?;
            self.sizes.insert(batch, bound);
        }
        let Some(bound) = self.sizes.get_mut(&batch) else {
            return Err(ort::Error::new("a binding has vanished"));
        };
        match self.element_type {
            ElementType::U8 => writer.write_bytes(pictures, bound.input.try_extract_tensor_mut::<u8>()?.1),
            ElementType::F32 => writer.write_floats(pictures, bound.input.try_extract_tensor_mut::<f32>()?.1),
        }
        // Binding is what sends it to the device.
        bound.binding.bind_input(input_name, &bound.input)?;
        let outputs = session.run_binding(&bound.binding)?;
        let output = outputs.get(output_name).ok_or_else(|| ort::Error::new("the output is missing"))?;
        Ok(read(output.try_extract_tensor::<f32>()?.1))
    }

    fn bind(&self, session: &Session, output_name: &str, shape: [usize; 4]) -> ort::Result<Bound> {
        let dtype = match self.element_type {
            ElementType::U8 => TensorElementType::Uint8,
            ElementType::F32 => TensorElementType::Float32,
        };
        let input = match self.memory {
            Memory::Processor => DynTensor::new(&Allocator::default(), dtype, shape)?,
            Memory::Pinned(_) => {
                DynTensor::new(&Allocator::new(session, self.info(MemoryType::CPUInput)?)?, dtype, shape)?
            }
        };
        let mut binding = session.create_binding()?;
        binding.bind_output_to_device(output_name, &self.info(MemoryType::CPUOutput)?)?;
        Ok(Bound { binding, input })
    }

    fn info(&self, kind: MemoryType) -> ort::Result<MemoryInfo<'static>> {
        match self.memory {
            Memory::Processor => MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default),
            Memory::Pinned(device) => {
                MemoryInfo::new(AllocationDevice::CUDA_PINNED, device, AllocatorType::Device, kind)
            }
        }
    }
}
