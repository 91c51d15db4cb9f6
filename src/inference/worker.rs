//! Who runs the model? One thread for each session; all take from one bounded queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::backend::{Backend, PixelBatch};
use super::batch::{self, Admission, Limits, Pending, Priority};
use super::embedder::{EmbedError, Embedded, EmbedderOptions};
use crate::domain::InputSize;

/// For so long after a viewer's frame the next one is expected.
const LIVE_LATELY: Duration = Duration::from_secs(2);

/// A picture on its way to the model.
pub(super) struct Job {
    pub(super) pixels: Vec<u8>,
    pub(super) priority: Priority,
    pub(super) deadline: Option<Instant>,
    pub(super) enqueued: Instant,
    pub(super) answer: oneshot::Sender<Result<Embedded, EmbedError>>,
}

/// Takes batches from `queue` and answers them until the queue is closed.
pub(super) fn run(queue: &Queue, mut backend: Box<dyn Backend>) {
    while let Some(Turn { jobs, wide, alone_after }) = queue.next_turn() {
        let taken = Instant::now();
        let pictures: Vec<&[u8]> = jobs.iter().map(|job| job.pixels.as_slice()).collect();
        // Nobody else holds it, for nobody else is alone.
        let mut wide = if wide { queue.wide.as_ref().and_then(Mutex::try_lock) } else { None };
        let is_wide = wide.is_some();
        let backend = wide.as_mut().map_or(&mut backend, |wide| &mut **wide);
        let answers = match PixelBatch::new(queue.input, pictures) {
            // A panic inside the runtime must cost this batch, not the service.
            Some(batch) => match catch_unwind(AssertUnwindSafe(|| backend.embed(&batch))) {
                Ok(Ok(answers)) if answers.len() == jobs.len() => Ok(answers),
                Ok(Ok(answers)) => Err(format!("{} answers for {} pictures", answers.len(), jobs.len())),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the runtime panicked".to_owned()),
            },
            // `Embedder::embed` lets no such picture through.
            None => Err("a picture has another size".to_owned()),
        };
        drop(wide);
        let inference = taken.elapsed();
        let count = jobs.len();
        queue.ran(inference, count, is_wide, alone_after);
        match answers {
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    let queued = taken.saturating_duration_since(job.enqueued);
                    let embedded = answer.map(|embedding| Embedded { embedding, queued, inference, batch: count });
                    // The caller may have gone meanwhile.
                    let _ = job.answer.send(embedded.map_err(|error| EmbedError::Failed(error.to_string())));
                }
            }
            Err(reason) => {
                tracing::error!(batch = count, reason, "a batch of pictures failed");
                answer_all(jobs, &EmbedError::Failed(reason));
            }
        }
    }
}

/// When more than this share of the turns that began alone saw another picture come, two pictures are done sooner side by side than one
/// after the other on all processors.
const OFTEN_FOLLOWED: f32 = 0.5;

/// What a worker does next.
struct Turn {
    /// Never empty.
    jobs: Vec<Job>,
    /// Whether it is for the wide session.
    wide: bool,
    /// How many pictures had ever come when it began, if no other worker did anything then.
    alone_after: Option<u64>,
}

/// The pictures that wait, for all workers together.
pub(super) struct Queue {
    input: InputSize,
    capacity: usize,
    max_batch: usize,
    workers: usize,
    rounds: usize,
    patience: Duration,
    frame_delay: Duration,
    /// A session of several threads for whoever is alone: what nobody else has to wait for is done sooner.
    wide: Option<Mutex<Box<dyn Backend>>>,
    /// So many pictures rather wait for the wide session than be begun beside it: it has all processors, and is soon done.
    held: usize,
    state: Mutex<State>,
    /// One worker is woken for each picture that arrives.
    arrived: Condvar,
}

struct State {
    /// In the order of arrival; at most `capacity`, so that planning may look at all of them.
    jobs: Vec<Job>,
    free_workers: usize,
    /// Workers whose batch is with the model.
    busy_workers: usize,
    /// One of them has the wide session.
    wide_runs: bool,
    /// Pictures that have ever come.
    arrivals: u64,
    /// A decayed share of the turns that began alone and saw another picture come.
    followed: f32,
    /// A decayed mean of what a picture took.
    cost_per_picture: Duration,
    /// When the last of the viewers' frames came.
    last_live: Option<Instant>,
    closed: bool,
}

impl Queue {
    /// For so many workers, and with what is taken by one that is alone.
    pub(super) fn new(
        options: &EmbedderOptions,
        input: InputSize,
        workers: usize,
        wide: Option<Box<dyn Backend>>,
    ) -> Self {
        let state = State {
            jobs: Vec::new(),
            free_workers: 0,
            busy_workers: 0,
            wide_runs: false,
            arrivals: 0,
            followed: 0.0,
            cost_per_picture: Duration::ZERO,
            last_live: None,
            closed: false,
        };
        Self {
            input,
            capacity: options.queue_capacity,
            max_batch: options.largest_batch(input),
            workers,
            rounds: options.rounds,
            patience: options.bulk_patience,
            frame_delay: options.frame_delay,
            held: usize::from(
                wide.is_some() && options.wide().is_some_and(|threads| threads >= workers * options.intra_threads),
            ),
            wide: wide.map(Mutex::new),
            state: Mutex::new(state),
            arrived: Condvar::new(),
        }
    }

    /// Queues a picture, in the place of a less urgent one if there is no room.
    pub(super) fn push(&self, job: Job) -> Result<(), EmbedError> {
        let displaced = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(EmbedError::ShuttingDown);
            }
            let displaced = if state.jobs.len() < self.capacity {
                None
            } else {
                match batch::admit(&state.pending(), self.capacity, job.priority) {
                    Admission::Enter => None,
                    Admission::Displace(position) => Some(state.jobs.remove(position)),
                    Admission::Refuse => return Err(EmbedError::QueueFull),
                }
            };
            if job.priority == Priority::Live {
                state.last_live = Some(job.enqueued);
            }
            state.jobs.push(job);
            state.arrivals += 1;
            displaced
        };
        self.arrived.notify_one();
        answer_all(displaced, &EmbedError::QueueFull);
        Ok(())
    }

    /// Waits for work; `None` when the queue was closed.
    fn next_turn(&self) -> Option<Turn> {
        let mut state = self.state.lock();
        state.free_workers += 1;
        loop {
            if state.closed {
                return None;
            }
            // Whoever has the wide session comes back for them, and every newcomer wakes a worker to look again.
            if state.wide_runs && state.jobs.len() <= self.held {
                self.arrived.wait(&mut state);
                continue;
            }
            let limits = Limits {
                max_batch: self.max_batch,
                free_workers: state.free_workers,
                workers: self.workers,
                rounds: self.rounds,
                cost_per_picture: state.cost_per_picture,
                live_lately: state.last_live.is_some_and(|at| at.elapsed() < LIVE_LATELY),
                frame_delay: self.frame_delay,
                patience: self.patience,
            };
            let (taken, late) = state.take(limits, Instant::now());
            answer_all(late, &EmbedError::DeadlinePassed);
            if !taken.is_empty() {
                state.free_workers -= 1;
                if !state.jobs.is_empty() && state.free_workers > 0 {
                    // What this worker left, because of its share or of a deadline, is for the others.
                    self.arrived.notify_one();
                }
                let alone_after = (state.busy_workers == 0).then_some(state.arrivals);
                let wide = self.wide.is_some()
                    && alone_after.is_some()
                    && state.jobs.len() <= self.held
                    && state.followed <= OFTEN_FOLLOWED;
                state.busy_workers += 1;
                state.wide_runs |= wide;
                return Some(Turn { jobs: taken, wide, alone_after });
            }
            self.arrived.wait(&mut state);
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.state.lock().jobs.len()
    }

    /// What a picture has cost of late; zero before the first.
    pub(super) fn cost_per_picture(&self) -> Duration {
        self.state.lock().cost_per_picture
    }

    /// Ends the workers and answers all that wait.
    pub(super) fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        self.arrived.notify_all();
        answer_all(waiting, &EmbedError::ShuttingDown);
    }

    /// Notes that a worker's run has ended, and how many pictures had ever come before it, if it began alone. What the wide session took says
    /// nothing of what pictures cost when there are many.
    fn ran(&self, inference: Duration, count: usize, is_wide: bool, alone_after: Option<u64>) {
        let observed = inference / u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let mut state = self.state.lock();
        state.busy_workers = state.busy_workers.saturating_sub(1);
        state.wide_runs &= !is_wide;
        if let Some(before) = alone_after {
            let followed = if state.arrivals > before { 1.0 } else { 0.0 };
            state.followed += (followed - state.followed) / 8.0;
        }
        if state.cost_per_picture.is_zero() {
            state.cost_per_picture = observed;
        } else if !is_wide {
            state.cost_per_picture = (state.cost_per_picture * 7 + observed) / 8;
        }
    }
}

impl State {
    fn pending(&self) -> Vec<Pending> {
        let pending = |job: &Job| Pending {
            priority: job.priority,
            enqueued: job.enqueued,
            deadline: job.deadline,
            gone: job.answer.is_closed(),
        };
        self.jobs.iter().map(pending).collect()
    }

    /// Takes the next batch and those that are late; forgets those whose caller has gone.
    fn take(&mut self, limits: Limits, now: Instant) -> (Vec<Job>, Vec<Job>) {
        let plan = batch::plan(&self.pending(), limits, now);
        let mut jobs: Vec<Option<Job>> = std::mem::take(&mut self.jobs).into_iter().map(Some).collect();
        let mut pick = |positions: &[usize]| positions.iter().filter_map(|&p| jobs[p].take()).collect();
        let (taken, late): (Vec<Job>, Vec<Job>) = (pick(&plan.batch), pick(&plan.late));
        let _gone: Vec<Job> = pick(&plan.gone);
        self.jobs = jobs.into_iter().flatten().collect();
        (taken, late)
    }
}

fn answer_all(jobs: impl IntoIterator<Item = Job>, error: &EmbedError) {
    for job in jobs {
        // The caller may have gone meanwhile.
        let _ = job.answer.send(Err(error.clone()));
    }
}
