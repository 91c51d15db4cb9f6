//! What could be reached at best? The model alone, as the server runs it, and the stages of a frame on one thread.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde::Serialize;
use upnext::config::{Provider as ProviderSetting, Settings, Sources};
use upnext::inference::{
    Backend, Embedder, EmbedderOptions, Manifest, OnnxBackend, OnnxOptions, PixelBatch, Priority, Provider, runtime,
};
use upnext::vision::{DecodeLimits, Preprocessor, decode, luma_thumb, preprocess};

use crate::frames::Frame;
use crate::report::{median, processors};
use crate::{Args, Failure, note};

/// Different pictures that go round while the model is measured.
const PICTURES: usize = 32;
/// Frames on which the stages are measured, and for how long at most.
const STAGE_FRAMES: usize = 64;
const STAGE_TIME: Duration = Duration::from_secs(4);

/// The model in this process, with the server's settings.
pub(crate) struct Alone {
    manifest: Manifest,
    options: EmbedderOptions,
}

/// Milliseconds of each stage of a frame, on one thread, one frame at a time: medians, which others on the machine hardly touch.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Stages {
    pub(crate) decode_ms: f64,
    pub(crate) fingerprint_ms: f64,
    pub(crate) resize_ms: f64,
    pub(crate) inference_ms: f64,
}

/// What this machine could do just then.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Yardstick {
    /// Pictures a second of the model alone, as the server runs it when there is much to do.
    pub(crate) model_per_s: f64,
    /// While the other processors have nothing to do.
    pub(crate) stages: Stages,
    /// While every processor does the same: what they take from each other is in it.
    pub(crate) stages_together: Stages,
}

impl Stages {
    pub(crate) fn sum_ms(&self) -> f64 {
        self.decode_ms + self.fingerprint_ms + self.resize_ms + self.inference_ms
    }

    /// Frames a second if every processor did nothing else.
    pub(crate) fn limit_per_s(&self) -> f64 {
        processors() as f64 * 1e3 / self.sum_ms().max(1e-9)
    }

    /// The median of each stage.
    pub(crate) fn median(all: &[Self]) -> Self {
        let of = |stage: fn(&Self) -> f64| median(all.iter().map(stage).collect());
        Self {
            decode_ms: of(|stages| stages.decode_ms),
            fingerprint_ms: of(|stages| stages.fingerprint_ms),
            resize_ms: of(|stages| stages.resize_ms),
            inference_ms: of(|stages| stages.inference_ms),
        }
    }
}

impl Alone {
    /// Reads the settings as the server that is started does. With `--url`, those of this machine stand for it.
    pub(crate) fn load(args: &Args) -> Result<Self, Failure> {
        let inference = Settings::load(&Sources::from_process(None, args.overrides.clone()))?.settings.inference;
        let located = runtime::ensure(inference.runtime_path.as_deref(), &Default::default(), &mut |_| {})?;
        runtime::load(&located)?;
        let file = inference.models_dir.join(format!("{}.toml", inference.model));
        let manifest = if file.exists() {
            Manifest::load(&file)?
        } else {
            Manifest::builtin_named(&inference.model).ok_or_else(|| format!("there is no {}", file.display()))??
        };
        let on_processor = inference.providers.first().is_none_or(|first| *first == ProviderSetting::Cpu);
        let suited = if on_processor { EmbedderOptions::default() } else { EmbedderOptions::gpu() };
        let provider = |provider: &ProviderSetting| match provider {
            ProviderSetting::Cpu => Provider::Cpu,
            ProviderSetting::Cuda => Provider::Cuda,
            ProviderSetting::Tensorrt => Provider::TensorRt,
        };
        let options = EmbedderOptions {
            workers: if inference.workers == 0 { suited.workers } else { inference.workers },
            intra_threads: if inference.intra_threads == 0 { suited.intra_threads } else { inference.intra_threads },
            // One picture after the other on all processors is sooner, but not more: the most is what the others do.
            wide_threads: Some(1),
            max_batch: if inference.max_batch == 0 { suited.max_batch } else { Some(inference.max_batch) },
            providers: inference.providers.iter().map(provider).collect(),
            device: inference.device,
            ..suited
        };
        Ok(Self { manifest, options })
    }

    pub(crate) fn model_id(&self) -> &str {
        self.manifest.model_id()
    }

    pub(crate) fn workers(&self) -> usize {
        self.options.workers
    }

    pub(crate) fn intra_threads(&self) -> usize {
        self.options.intra_threads
    }

    /// What it takes now. Measures for `seconds` and a second or two.
    pub(crate) fn yardstick(
        &self,
        tokio: &tokio::runtime::Runtime,
        frames: &[Frame],
        seconds: f64,
    ) -> Result<Yardstick, Failure> {
        note("the model and the stages alone");
        let model_per_s = self.throughput(tokio, frames, seconds)?;
        Ok(Yardstick {
            model_per_s,
            stages: self.stages(frames, 1)?,
            stages_together: self.stages(frames, processors())?,
        })
    }

    /// Pictures a second with one caller for each worker, or as many as fill their batches on a GPU.
    fn throughput(&self, tokio: &tokio::runtime::Runtime, frames: &[Frame], seconds: f64) -> Result<f64, Failure> {
        let inputs = Arc::new(self.inputs(frames)?);
        let embedder = Embedder::start(self.manifest.clone(), self.options.clone())?;
        let on_cpu = self.options.providers.first().is_none_or(|first| *first == Provider::Cpu);
        let callers = self.options.workers * if on_cpu { 1 } else { 2 * self.options.max_batch.unwrap_or(1) };
        let outcome = tokio.block_on(async {
            // The first run of a session allocates.
            call(embedder.clone(), Arc::clone(&inputs), 0, Duration::from_millis(200)).await?;
            let (started, duration) = (Instant::now(), Duration::from_secs_f64(seconds));
            let tasks: Vec<_> =
                (0..callers).map(|n| tokio::spawn(call(embedder.clone(), Arc::clone(&inputs), n, duration))).collect();
            let mut done = 0;
            for task in tasks {
                done += task.await??;
            }
            Ok::<_, Failure>(done as f64 / started.elapsed().as_secs_f64())
        });
        embedder.shutdown();
        outcome
    }

    /// The stages of a frame, on `threads` threads at a time, each of which does all of them.
    pub(crate) fn stages(&self, frames: &[Frame], threads: usize) -> Result<Stages, Failure> {
        let together = Barrier::new(threads);
        let all = std::thread::scope(|scope| {
            let started: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.stages_of_one(frames, &together))).collect();
            let ended = started.into_iter().map(|thread| thread.join().map_err(|_| "a measurement panicked")?);
            ended.collect::<Result<Vec<Stages>, Failure>>()
        })?;
        Ok(Stages::median(&all))
    }

    fn stages_of_one(&self, frames: &[Frame], together: &Barrier) -> Result<Stages, Failure> {
        let size = self.manifest.input();
        let options = OnnxOptions {
            providers: self.options.providers.clone(),
            device: self.options.device,
            ..Default::default()
        };
        let backend = OnnxBackend::load(&self.manifest, &options);
        // Before anything can fail: the others wait here.
        together.wait();
        let mut backend = backend?;
        let (mut preprocessor, mut input) = (Preprocessor::new(), vec![0; size.bytes()]);
        let limits = DecodeLimits::default();
        let mut spent = Vec::with_capacity(STAGE_FRAMES);
        let begun = Instant::now();
        // The first one warms up and does not count.
        for (n, frame) in frames.iter().cycle().take(STAGE_FRAMES + 1).enumerate() {
            let start = Instant::now();
            let pixels = decode(black_box(&frame.bytes), &limits)?;
            let decoded = Instant::now();
            black_box(luma_thumb(&pixels));
            let fingerprinted = Instant::now();
            preprocessor.run(&pixels, size, &mut input)?;
            let resized = Instant::now();
            let batch = PixelBatch::new(size, vec![&input]).ok_or("the picture has another size")?;
            black_box(backend.embed(&batch)?);
            let inferred = Instant::now();
            if n == 0 {
                continue;
            }
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            spent.push(Stages {
                decode_ms: ms(decoded - start),
                fingerprint_ms: ms(fingerprinted - decoded),
                resize_ms: ms(resized - fingerprinted),
                inference_ms: ms(inferred - resized),
            });
            if begun.elapsed() > STAGE_TIME {
                break;
            }
        }
        Ok(Stages::median(&spent))
    }

    fn inputs(&self, frames: &[Frame]) -> Result<Vec<Vec<u8>>, Failure> {
        let input = |frame: &Frame| -> Result<Vec<u8>, Failure> {
            Ok(preprocess(&decode(&frame.bytes, &DecodeLimits::default())?, self.manifest.input())?)
        };
        frames.iter().take(PICTURES).map(input).collect()
    }
}

/// One caller: the next picture as soon as the last is done. How many were.
async fn call(embedder: Embedder, inputs: Arc<Vec<Vec<u8>>>, first: usize, duration: Duration) -> Result<u64, Failure> {
    let until = Instant::now() + duration;
    let mut done = 0;
    for input in inputs.iter().cycle().skip(first) {
        if Instant::now() >= until {
            break;
        }
        embedder.embed(input.clone(), Priority::Live, None).await?;
        done += 1;
    }
    Ok(done)
}
