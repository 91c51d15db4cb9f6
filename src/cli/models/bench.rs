//! `upnext models bench`: how long does a picture take, by batch size and threads?

use std::time::{Duration, Instant};

use clap::Args;

use super::{find, load_runtime, picture};
use crate::app;
use crate::cli::CliError;
use crate::cli::output::line;
use crate::config::Settings;
use crate::inference::{Backend as _, OnnxBackend, OnnxOptions, PixelBatch, Provider};

/// Measure a model
#[derive(Debug, Args)]
pub(in crate::cli) struct Bench {
    /// Its name; the one that the settings choose if left out
    name: Option<String>,
    /// Pictures in a batch
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_values_t = [1, 4, 8], value_parser = count)]
    batches: Vec<usize>,
    /// Threads of the session
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_values_t = [1, 2], value_parser = count)]
    threads: Vec<usize>,
    /// How long each combination is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    duration_s: f64,
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=256).contains(count)).ok_or_else(|| "must be from 1 to 256".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.0..=3600.0).contains(s)).ok_or_else(|| "must be from 0 to 3600".to_owned())
}

impl Bench {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CliError> {
        load_runtime(settings)?;
        let inference = &settings.inference;
        let name = self.name.as_deref().unwrap_or(&inference.model);
        let manifest = find(&inference.models_dir, name)?;
        let picture = picture(&manifest);
        line(format_args!("{}, milliseconds a picture (median; processor time in brackets)", manifest.model_id()));
        for &threads in &self.threads {
            for &size in &self.batches {
                let set = app::embedder_options(settings);
                let options = OnnxOptions {
                    intra_threads: threads,
                    providers: set.providers,
                    device: set.device,
                    gpu: set.gpu,
                    max_batch: size,
                };
                let failed = |error: &dyn std::fmt::Display| CliError::Failed(format!("{name}: {error}"));
                let mut backend = OnnxBackend::load(&manifest, &options).map_err(|error| failed(&error))?;
                let batch = PixelBatch::new(manifest.input(), vec![&picture; size])
                    .ok_or_else(|| failed(&"a picture has another size"))?;
                // The first run lays out memory.
                backend.embed(&batch).map_err(|error| failed(&error))?;
                let (begun, processor) = (Instant::now(), processor_s());
                let mut took = Vec::new();
                while took.len() < 3 || begun.elapsed() < Duration::from_secs_f64(self.duration_s) {
                    let run = Instant::now();
                    backend.embed(&batch).map_err(|error| failed(&error))?;
                    took.push(run.elapsed());
                }
                let processor = processor_s().zip(processor).map_or(String::new(), |(after, before)| {
                    format!(" ({:.2})", (after - before) * 1e3 / (took.len() * size) as f64)
                });
                let middle = took.len() / 2;
                let (_, median, _) = took.select_nth_unstable(middle);
                let each_ms = median.as_secs_f64() * 1e3 / size as f64;
                let devices: Vec<&str> = backend
                    .providers()
                    .iter()
                    .filter(|report| report.is_active() && report.provider != Provider::Cpu)
                    .map(|report| report.provider.name())
                    .collect();
                let device = if devices.is_empty() { "cpu".to_owned() } else { devices.join(", ") };
                line(format_args!(
                    "{device:<4} threads {threads:>3}  batch {size:>3}  {each_ms:>8.2}{processor}  {:>7.1} pictures/s",
                    1e3 / each_ms
                ));
            }
        }
        Ok(())
    }
}

/// Seconds of processor that this process has taken; `None` where the system does not say.
fn processor_s() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in brackets and may hold anything: count from the last one.
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || after_name.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}
