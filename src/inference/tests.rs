//! The real model, from pixels to embeddings.

use std::sync::OnceLock;

use super::*;
use crate::domain::Embedding;

/// Finds ONNX Runtime, or installs it where the program itself would.
fn load_runtime() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let located = runtime::ensure(None, &runtime::InstallOptions::default(), &mut |_| {}).unwrap();
        runtime::load(&located).unwrap();
    });
}

fn one_thread() -> OnnxOptions {
    OnnxOptions::default()
}

/// A picture of stripes and blobs that depend on `seed`.
fn picture(seed: usize, manifest: &Manifest) -> Vec<u8> {
    let (width, height) = (manifest.input().width as usize, manifest.input().height as usize);
    let mut rgb = Vec::with_capacity(manifest.input().bytes());
    for y in 0..height {
        for x in 0..width {
            let stripe = ((x * (seed + 1) + y * (seed * 3 % 7)) / 16 % 2) * 120;
            let blob = if (x / 32 + y / 32 + seed).is_multiple_of(3) { 100 } else { 0 };
            rgb.extend([stripe + blob, stripe + seed * 37 % 120, blob + x / 4].map(|value| value as u8));
        }
    }
    rgb
}

fn embed(backend: &mut OnnxBackend, manifest: &Manifest, pictures: &[Vec<u8>]) -> Vec<Embedding> {
    let batch = PixelBatch::new(manifest.input(), pictures.iter().map(Vec::as_slice).collect()).unwrap();
    backend.embed(&batch).unwrap().into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_batch_says_what_its_pictures_say_one_by_one() {
    load_runtime();
    let manifest = Manifest::builtin().unwrap();
    let mut backend = OnnxBackend::load(&manifest, &one_thread()).unwrap();
    let pictures: Vec<Vec<u8>> = (0..4).map(|seed| picture(seed, &manifest)).collect();
    let together = embed(&mut backend, &manifest, &pictures);
    for (picture, in_batch) in pictures.iter().zip(&together) {
        let alone = &embed(&mut backend, &manifest, std::slice::from_ref(picture))[0];
        assert_eq!(alone.dims(), 320);
        let norm: f32 = alone.as_slice().iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
        assert!(alone.cosine(in_batch) > 0.999);
    }
    for (i, a) in together.iter().enumerate() {
        for b in &together[i + 1..] {
            assert!(a.cosine(b) < 0.95, "different pictures look the same: {}", a.cosine(b));
        }
    }
}

#[test]
fn a_session_that_reads_from_buffers_of_its_own_says_the_same() {
    load_runtime();
    let manifest = Manifest::builtin().unwrap();
    let mut plain = OnnxBackend::load(&manifest, &one_thread()).unwrap();
    let mut bound = OnnxBackend::load(&manifest, &one_thread()).unwrap();
    bound.bind_as_on_a_device(&manifest, 4);
    let pictures: Vec<Vec<u8>> = (0..4).map(|seed| picture(seed, &manifest)).collect();
    let expected = embed(&mut plain, &manifest, &pictures);
    // Batches that are full and batches that are filled up, each buffer used twice.
    for places in [0..4, 1..4, 2..3, 0..3, 3..4, 0..4] {
        let got = embed(&mut bound, &manifest, &pictures[places.clone()]);
        assert_eq!(got.len(), places.len());
        for (got, expected) in got.iter().zip(&expected[places]) {
            assert!(got.cosine(expected) > 0.9999, "{}", got.cosine(expected));
        }
    }
}

#[test]
fn a_model_for_one_batch_size_takes_any() {
    load_runtime();
    let manifest = Manifest::builtin().unwrap();
    // The graph's symbolic batch size becomes 3: a field of the same length, as a number with leading zeros.
    let symbolic = b"\x0a\x07\x12\x05batch".as_slice();
    let fixed = b"\x0a\x07\x08\x83\x80\x80\x80\x80\x00".as_slice();
    let mut model = manifest.model().to_vec();
    let mut replaced = 0;
    while let Some(at) = model.windows(symbolic.len()).position(|window| window == symbolic) {
        model[at..at + fixed.len()].copy_from_slice(fixed);
        replaced += 1;
    }
    assert_eq!(replaced, 2, "input and output");
    let mut any = OnnxBackend::load(&manifest, &one_thread()).unwrap();
    let mut three = OnnxBackend::load(&manifest.clone().with_model(model), &one_thread()).unwrap();
    let pictures: Vec<Vec<u8>> = (0..4).map(|seed| picture(seed, &manifest)).collect();
    let expected = embed(&mut any, &manifest, &pictures);
    let got = embed(&mut three, &manifest, &pictures);
    assert_eq!(got.len(), 4);
    assert!(expected.iter().zip(&got).all(|(a, b)| a.cosine(b) > 0.999));
}

#[test]
fn a_model_that_does_not_fit_its_manifest_is_refused() {
    load_runtime();
    let text = include_str!("../../models/efficientnet-lite0-160.toml");
    let model = Manifest::builtin().unwrap().model().to_vec();
    for (from, to, reason) in [
        ("name = \"image\"", "name = \"picture\"", "its input is called `image`"),
        ("\"nhwc\"", "\"nchw\"", "shape"),
        ("\"u8\"", "\"f32\"", "not a tensor of f32"),
        ("name = \"embedding\"", "name = \"logits\"", "no output `logits`"),
        ("dims = 320", "dims = 1280", "[-1, 1280]"),
    ] {
        let manifest = Manifest::parse(&text.replace(from, to)).unwrap().with_model(model.clone());
        match OnnxBackend::load(&manifest, &one_thread()) {
            Err(InferenceError::Mismatch { reason: actual, .. }) => {
                assert!(actual.contains(reason), "{to}: {actual}");
            }
            other => panic!("{to}: {other:?}"),
        }
    }
    let garbage = Manifest::parse(text).unwrap().with_model(b"garbage".to_vec());
    assert!(matches!(OnnxBackend::load(&garbage, &one_thread()), Err(InferenceError::Load { .. })));
}

/// On a machine with the device and the libraries for it, it is active; anywhere else the report says why not.
#[tokio::test]
async fn a_provider_that_is_not_there_is_reported() {
    load_runtime();
    let options = EmbedderOptions { workers: 1, providers: vec![Provider::Cuda, Provider::Cpu], ..Default::default() };
    let manifest = Manifest::builtin().unwrap();
    let picture = picture(1, &manifest);
    let embedder = Embedder::start(manifest, options).unwrap();
    let [cuda, cpu] = embedder.providers() else { panic!("two were asked for") };
    assert_eq!((cuda.provider, cpu.provider), (Provider::Cuda, Provider::Cpu));
    assert!(cpu.is_active());
    if let ProviderOutcome::Unavailable(reason) = &cuda.outcome {
        assert!(!reason.is_empty());
    }
    assert_eq!(embedder.embed(picture, Priority::Live, None).await.unwrap().embedding.dims(), 320);
}

/// Where there is a device, it says what the processor says, in every batch size; where there is none, that is reported.
#[test]
fn a_device_agrees_with_the_processor() {
    load_runtime();
    let manifest = Manifest::builtin().unwrap();
    let pictures: Vec<Vec<u8>> = (0..5).map(|seed| picture(seed, &manifest)).collect();
    let mut processor = OnnxBackend::load(&manifest, &one_thread()).unwrap();
    let expected = embed(&mut processor, &manifest, &pictures);
    let precise = GpuOptions { fp16: false, ..GpuOptions::default() };
    let devices = [
        (Provider::Cuda, precise.clone(), 0.999),
        (Provider::TensorRt, precise, 0.999),
        (Provider::TensorRt, GpuOptions::default(), 0.99),
    ];
    for (provider, gpu, at_least) in devices {
        let options = OnnxOptions { providers: vec![provider], gpu, max_batch: 4, ..OnnxOptions::default() };
        let mut backend = OnnxBackend::load(&manifest, &options).unwrap();
        let active = backend.providers()[0].is_active();
        let agreement = [0..1, 0..3, 1..5, 0..5].map(|places: std::ops::Range<usize>| {
            let got = embed(&mut backend, &manifest, &pictures[places.clone()]);
            assert_eq!(got.len(), places.len());
            got.iter().zip(&expected[places]).map(|(a, b)| a.cosine(b)).fold(1.0, f32::min)
        });
        let worst = agreement.into_iter().fold(1.0, f32::min);
        assert!(worst > at_least, "{provider} (active: {active}): {worst}");
    }
}

#[tokio::test]
async fn many_callers_share_the_workers() {
    load_runtime();
    let manifest = Manifest::builtin().unwrap();
    let options = EmbedderOptions { workers: 2, max_batch: Some(4), ..Default::default() };
    let embedder = Embedder::start(manifest.clone(), options).unwrap();
    assert_eq!(embedder.model_id(), manifest.model_id());
    assert_eq!((embedder.dims(), embedder.input()), (320, manifest.input()));
    let calls: Vec<_> = (0..12)
        .map(|seed| {
            let (embedder, pixels) = (embedder.clone(), picture(seed % 3, &manifest));
            tokio::spawn(async move { embedder.embed(pixels, Priority::Interactive, None).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().unwrap());
    }
    for (seed, answer) in answers.iter().enumerate() {
        assert!(answer.embedding.cosine(&answers[seed % 3].embedding) > 0.999, "answers were mixed up");
        assert!((1..=4).contains(&answer.batch));
    }
    assert_eq!(embedder.queue_depth(), 0);
    embedder.shutdown();
}
