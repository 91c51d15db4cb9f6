//! How long does the shipped model take? `cargo bench --bench inference`
//!
//! One picture and a batch of eight on one session, the throughput of the whole embedder with different shares of
//! the cores between sessions and threads, and batches of 1 to 128 on graphics devices, if there are any. ONNX Runtime
//! is installed if it is not there.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use upnext::inference::{
    Backend, Embedder, EmbedderOptions, Manifest, OnnxBackend, OnnxOptions, PixelBatch, Priority, Provider, runtime,
};

/// Pictures on their way at once when throughput is measured.
const CALLS: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let located = runtime::ensure(None, &runtime::InstallOptions::default(), &mut |_| {})?;
    runtime::load(&located)?;
    let manifest = Manifest::builtin()?;
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    sessions(&mut criterion, &manifest)?;
    embedders(&mut criterion, &manifest)?;
    devices(&mut criterion, &manifest)?;
    criterion.final_summary();
    Ok(())
}

fn picture(manifest: &Manifest) -> Vec<u8> {
    // Anything but a flat picture: multiplying by an odd number spreads the bytes.
    (0..manifest.input().bytes()).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn sessions(criterion: &mut Criterion, manifest: &Manifest) -> Result<(), Box<dyn std::error::Error>> {
    let options = OnnxOptions::default();
    let mut backend = OnnxBackend::load(manifest, &options)?;
    let picture = picture(manifest);
    let mut group = criterion.benchmark_group("session_one_thread");
    for size in [1, 8] {
        let batch = PixelBatch::new(manifest.input(), vec![&picture; size]).ok_or("the picture has another size")?;
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("batch_{size}"), |bencher| bencher.iter(|| black_box(backend.embed(&batch))));
    }
    group.finish();
    Ok(())
}

fn embedders(criterion: &mut Criterion, manifest: &Manifest) -> Result<(), Box<dyn std::error::Error>> {
    let tokio = tokio::runtime::Builder::new_current_thread().build()?;
    let picture = picture(manifest);
    let mut group = criterion.benchmark_group("embedder");
    group.throughput(Throughput::Elements(CALLS as u64));
    for (workers, intra_threads, max_batch) in [(1, 1, 8), (2, 1, 8), (2, 1, 1), (1, 2, 8), (1, 2, 1)] {
        let options = EmbedderOptions {
            workers,
            intra_threads,
            wide_threads: Some(1),
            max_batch: Some(max_batch),
            ..Default::default()
        };
        let embedder = Embedder::start(manifest.clone(), options)?;
        let name = format!("{workers}_workers_{intra_threads}_threads_batch_{max_batch}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                tokio.block_on(futures_util::future::join_all(
                    (0..CALLS).map(|_| embedder.embed(picture.clone(), Priority::Bulk, None)),
                ))
            });
        });
        embedder.shutdown();
    }
    group.finish();
    Ok(())
}

/// The largest batch that is measured on a device.
const LARGEST: usize = 128;

fn devices(criterion: &mut Criterion, manifest: &Manifest) -> Result<(), Box<dyn std::error::Error>> {
    let picture = picture(manifest);
    for provider in [Provider::Cuda, Provider::TensorRt] {
        let options = OnnxOptions { providers: vec![provider], max_batch: LARGEST, ..OnnxOptions::default() };
        let mut backend = OnnxBackend::load(manifest, &options)?;
        // What runs on the processor instead is measured above.
        if !backend.providers().iter().all(|report| report.is_active()) {
            continue;
        }
        let mut group = criterion.benchmark_group(format!("device_{provider}"));
        for size in [1, 8, 32, LARGEST] {
            let batch =
                PixelBatch::new(manifest.input(), vec![&picture; size]).ok_or("the picture has another size")?;
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(format!("batch_{size}"), |bencher| bencher.iter(|| black_box(backend.embed(&batch))));
        }
        group.finish();
    }
    Ok(())
}
