//! Who decodes the next picture, and whose? Threads of their own, which take viewers' frames first.
//!
//! Decoding shares the processors with the model, which takes several times as long. While pictures wait for the model, more that are
//! decoded would only take time from it, so then some of the threads rest. Where decoding takes longest, as with large frames, all work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::inference::Priority;

/// The most urgent first.
const PRIORITIES: [Priority; 3] = [Priority::Live, Priority::Interactive, Priority::Bulk];

/// A pool of threads that decode. What waits for them is bounded by those who ask.
#[derive(Debug)]
pub(in crate::engine) struct Decoders {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

/// What waits, by priority.
#[derive(Debug, Default)]
struct Lines {
    waiting: [VecDeque<Job>; PRIORITIES.len()],
    closed: bool,
}

struct Job {
    /// Whether pictures waited for the model when it came.
    busy: bool,
    work: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("busy", &self.busy).finish_non_exhaustive()
    }
}

impl Decoders {
    /// Threads that `always` decode (at least one), and those that do so only while the model has nothing to do.
    pub(in crate::engine) fn new(always: usize, while_the_model_is_idle: usize) -> std::io::Result<Self> {
        let mut pool = Self { shared: Arc::default(), threads: Vec::new() };
        let always = always.max(1);
        for number in 0..always + while_the_model_is_idle {
            let (shared, idle_only) = (Arc::clone(&pool.shared), number >= always);
            let thread = std::thread::Builder::new().name(format!("decode-{number}"));
            pool.threads.push(thread.spawn(move || shared.work(idle_only))?);
        }
        Ok(pool)
    }

    /// What `work` makes, once it is its turn; `None` if it panicked or the pool ends. `busy` says that pictures wait for the model
    /// already. If the caller goes before the work has begun, it does not begin.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        priority: Priority,
        busy: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, receiver) = oneshot::channel();
        let work = move || {
            if !answer.is_closed() {
                // Nobody may be left to hear it.
                let _ = answer.send(work());
            }
        };
        {
            let mut lines = self.shared.lines.lock();
            if lines.closed {
                return None;
            }
            let line = PRIORITIES.iter().position(|own| *own == priority).unwrap_or_default();
            lines.waiting[line].push_back(Job { busy, work: Box::new(work) });
        }
        // All, because one that rests while the model is busy would not pass it on.
        self.shared.changed.notify_all();
        receiver.await.ok()
    }
}

impl Drop for Decoders {
    fn drop(&mut self) {
        let left = {
            let mut lines = self.shared.lines.lock();
            lines.closed = true;
            std::mem::take(&mut lines.waiting)
        };
        drop(left);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has told so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, idle_only: bool) {
        let mut lines = self.lines.lock();
        while !lines.closed {
            match lines.next(idle_only) {
                Some(job) => parking_lot::MutexGuard::unlocked(&mut lines, || {
                    // The decoders are other people's code; a thread must outlive them.
                    let _ = catch_unwind(AssertUnwindSafe(job.work));
                }),
                None => self.changed.wait(&mut lines),
            }
        }
    }
}

impl Lines {
    fn next(&mut self, idle_only: bool) -> Option<Job> {
        self.waiting.iter_mut().find_map(|line| {
            let first = if idle_only { line.iter().position(|job| !job.busy)? } else { 0 };
            line.remove(first)
        })
    }
}

#[cfg(test)]
impl Decoders {
    /// Keeps one thread busy until what is returned is dropped.
    pub(super) fn occupy(&self) -> std::sync::mpsc::Sender<()> {
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (began, begun) = std::sync::mpsc::channel::<()>();
        let work = move || {
            began.send(()).unwrap();
            let _ = wait.recv();
        };
        self.shared.lines.lock().waiting[0].push_back(Job { busy: true, work: Box::new(work) });
        self.shared.changed.notify_all();
        begun.recv().unwrap();
        go_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn viewers_come_first_and_who_has_gone_is_left_out() {
        let pool = Decoders::new(1, 0).unwrap();
        let go_on = pool.occupy();
        let order = Arc::new(Mutex::new(Vec::new()));
        let job = |priority: Priority, name: &'static str| {
            let order = Arc::clone(&order);
            pool.run(priority, true, move || order.lock().push(name))
        };
        let mut gone = Box::pin(job(Priority::Live, "gone"));
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        let mut each = [
            (Priority::Bulk, "an import"),
            (Priority::Interactive, "a search"),
            (Priority::Live, "a frame"),
            (Priority::Live, "another"),
        ]
        .map(|(priority, name)| Box::pin(job(priority, name)));
        for waiting in &mut each {
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        }
        drop(gone);
        drop(go_on);
        for done in each {
            assert_eq!(done.await, Some(()));
        }
        assert_eq!(*order.lock(), ["a frame", "another", "a search", "an import"]);
    }

    #[tokio::test]
    async fn more_decode_only_while_nothing_waits_for_the_model() {
        let pool = Decoders::new(1, 1).unwrap();
        let go_on = pool.occupy();
        assert_eq!(pool.run(Priority::Bulk, false, || 1).await, Some(1), "by the other thread");
        let mut busy = Box::pin(pool.run(Priority::Live, true, || 2));
        assert!(futures_util::poll!(busy.as_mut()).is_pending());
        assert_eq!(pool.run(Priority::Bulk, false, || 3).await, Some(3));
        assert!(futures_util::poll!(busy.as_mut()).is_pending(), "it waits for the first");
        drop(go_on);
        assert_eq!(busy.await, Some(2));
    }

    #[tokio::test]
    async fn a_panic_costs_its_picture_only() {
        let pool = Decoders::new(1, 0).unwrap();
        let broken: Option<()> =
            pool.run(Priority::Live, false, || panic!("a decoder broke, as this test wants it")).await;
        assert_eq!(broken, None);
        assert_eq!(pool.run(Priority::Live, false, || 4).await, Some(4));
    }
}
