//! Who waits for whom, with backends that do what the test tells them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::*;
use crate::domain::{Embedding, EmbeddingError, Fit, InputSize};

const INPUT: InputSize = InputSize { width: 1, height: 1, fit: Fit::Stretch };

/// What a gated backend does with its next batch.
enum Order {
    Answer,
    Fail,
    Panic,
}

/// Says which batch has arrived and waits for an order.
struct Gated {
    arrived: Sender<Vec<u8>>,
    orders: Receiver<Order>,
}

impl Backend for Gated {
    fn embed(&mut self, batch: &PixelBatch<'_>) -> Result<Vec<Result<Embedding, EmbeddingError>>, BackendError> {
        let reds: Vec<u8> = batch.pictures().iter().map(|rgb| rgb[0]).collect();
        self.arrived.send(reds.clone()).unwrap();
        match self.orders.recv() {
            // The picture 0 makes a model answer zeros.
            Ok(Order::Answer) => Ok(reds.iter().map(|&red| Embedding::unit(vec![f32::from(red), 0.0])).collect()),
            Ok(Order::Fail) => Err(BackendError::Run("out of memory".to_owned())),
            Ok(Order::Panic) => panic!("as the test wants it"),
            Err(_) => Err(BackendError::Run("the test is over".to_owned())),
        }
    }
}

struct Bench {
    embedder: Embedder,
    arrived: Receiver<Vec<u8>>,
    orders: Sender<Order>,
}

impl Bench {
    fn new(queue_capacity: usize, max_batch: usize) -> Self {
        let (arrived_sender, arrived) = unbounded();
        let (orders, orders_receiver) = unbounded();
        let spec = ModelSpec { model_id: "gated@0".to_owned(), input: INPUT, dims: 2, metric: Metric::Cosine };
        let options = EmbedderOptions {
            queue_capacity,
            max_batch: Some(max_batch),
            workers: 1,
            rounds: 0,
            frame_delay: Duration::MAX,
            ..Default::default()
        };
        let backend = Gated { arrived: arrived_sender, orders: orders_receiver };
        let embedder = Embedder::with_backends(spec, vec![Box::new(backend)], &options).unwrap();
        Self { embedder, arrived, orders }
    }

    /// Starts a call and lets it run until it waits.
    async fn call(&self, red: u8, priority: Priority, deadline: Option<Instant>) -> Call {
        let embedder = self.embedder.clone();
        let call = tokio::spawn(async move { embedder.embed(vec![red, 0, 0], priority, deadline).await });
        // On one thread, this runs the new task until it has to wait.
        tokio::task::yield_now().await;
        call
    }

    fn next_batch(&self) -> Vec<u8> {
        self.arrived.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }
}

type Call = JoinHandle<Result<Embedded, EmbedError>>;

#[tokio::test]
async fn a_batch_forms_while_the_model_is_busy() {
    let bench = Bench::new(8, 8);
    let mut calls = vec![bench.call(1, Priority::Bulk, None).await];
    assert_eq!(bench.next_batch(), [1]);
    for (red, priority) in [(2, Priority::Bulk), (3, Priority::Interactive), (4, Priority::Live)] {
        calls.push(bench.call(red, priority, None).await);
    }
    assert_eq!(bench.embedder.queue_depth(), 3);
    bench.order(Order::Answer);
    assert_eq!(bench.next_batch(), [4, 3, 2]);
    bench.order(Order::Answer);
    let mut batches = Vec::new();
    for call in calls {
        batches.push(call.await.unwrap().unwrap().batch);
    }
    assert_eq!(batches, [1, 3, 3, 3]);
}

/// Two workers, and a wide session.
struct Pair {
    embedder: Embedder,
    wide: (Receiver<Vec<u8>>, Sender<Order>),
    narrow: [(Receiver<Vec<u8>>, Sender<Order>); 2],
}

impl Pair {
    fn new() -> Self {
        let spec = ModelSpec { model_id: "gated@0".to_owned(), input: INPUT, dims: 2, metric: Metric::Cosine };
        let gated = || {
            let ((arrived_sender, arrived), (orders, orders_receiver)) = (unbounded(), unbounded());
            let backend: Box<dyn Backend> = Box::new(Gated { arrived: arrived_sender, orders: orders_receiver });
            (backend, (arrived, orders))
        };
        let ((wide, wide_line), (one, one_line), (other, other_line)) = (gated(), gated(), gated());
        let options = EmbedderOptions { workers: 2, ..Default::default() };
        let embedder = Embedder::assemble(spec, vec![one, other], Some(wide), &options).unwrap();
        Self { embedder, wide: wide_line, narrow: [one_line, other_line] }
    }

    async fn call(&self, red: u8) -> Call {
        let embedder = self.embedder.clone();
        let call = tokio::spawn(async move { embedder.embed(vec![red, 0, 0], Priority::Live, None).await });
        tokio::task::yield_now().await;
        call
    }

    /// What the wide session is given next.
    fn wide(&self) -> Vec<u8> {
        self.wide.0.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    /// What one of the two workers' own sessions is given next, and where it takes its order.
    fn narrow(&self) -> (Vec<u8>, &Sender<Order>) {
        let [(one, one_orders), (other, other_orders)] = &self.narrow;
        crossbeam_channel::select! {
            recv(one) -> reds => (reds.unwrap(), one_orders),
            recv(other) -> reds => (reds.unwrap(), other_orders),
            default(Duration::from_secs(60)) => panic!("no worker took anything"),
        }
    }
}

#[tokio::test]
async fn a_worker_that_is_alone_takes_the_wide_session() {
    let pair = Pair::new();
    for (red, order) in [(1, Order::Answer), (4, Order::Panic), (7, Order::Answer)] {
        let alone = pair.call(red).await;
        assert_eq!(pair.wide(), [red]);
        // One waits for it. When there are two, the first goes to the worker that is left, which has a session of its own.
        let first = pair.call(red + 1).await;
        assert_eq!(pair.embedder.queue_depth(), 1);
        let second = pair.call(red + 2).await;
        let (reds, orders) = pair.narrow();
        assert_eq!(reds, [red + 1]);
        orders.send(Order::Answer).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(pair.embedder.queue_depth(), 1);
        let fails = matches!(order, Order::Panic);
        pair.wide.1.send(order).unwrap();
        assert_eq!(alone.await.unwrap().is_err(), fails);
        assert_eq!(pair.wide(), [red + 2]);
        pair.wide.1.send(Order::Answer).unwrap();
        second.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn pictures_that_keep_coming_in_twos_are_done_side_by_side() {
    let pair = Pair::new();
    let mut call = pair.call(1).await;
    for red in 2..=7 {
        assert_eq!(pair.wide(), [red - 1]);
        let next = pair.call(red).await;
        pair.wide.1.send(Order::Answer).unwrap();
        call.await.unwrap().unwrap();
        call = next;
    }
    let (reds, orders) = pair.narrow();
    assert_eq!(reds, [7]);
    let beside = pair.call(8).await;
    let (reds, orders_beside) = pair.narrow();
    assert_eq!(reds, [8]);
    for (orders, call) in [(orders, call), (orders_beside, beside)] {
        orders.send(Order::Answer).unwrap();
        call.await.unwrap().unwrap();
    }
    // When they come one by one again, it takes some of them to believe it.
    for red in [9, 10] {
        let call = pair.call(red).await;
        let (reds, orders) = pair.narrow();
        assert_eq!(reds, [red]);
        orders.send(Order::Answer).unwrap();
        call.await.unwrap().unwrap();
    }
    let call = pair.call(11).await;
    assert_eq!(pair.wide(), [11]);
    pair.wide.1.send(Order::Answer).unwrap();
    call.await.unwrap().unwrap();
}

#[test]
fn a_wide_session_has_the_threads_of_all_workers_but_few() {
    let of = |workers, intra_threads, wide_threads| {
        EmbedderOptions { workers, intra_threads, wide_threads, ..Default::default() }.wide()
    };
    assert_eq!([of(1, 1, None), of(2, 1, None), of(16, 1, None)], [None, Some(2), Some(4)]);
    assert_eq!([of(1, 2, None), of(4, 1, Some(1)), of(2, 1, Some(6))], [None, None, Some(6)]);
    assert_eq!(EmbedderOptions::gpu().wide(), None);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_unless_somebody_can_wait() {
    let bench = Bench::new(2, 8);
    let running = bench.call(1, Priority::Live, None).await;
    assert_eq!(bench.next_batch(), [1]);
    let first = bench.call(2, Priority::Interactive, None).await;
    let second = bench.call(3, Priority::Interactive, None).await;
    let refused = bench.call(4, Priority::Interactive, None).await;
    assert_eq!(refused.await.unwrap(), Err(EmbedError::QueueFull));
    let urgent = bench.call(5, Priority::Live, None).await;
    assert_eq!(second.await.unwrap(), Err(EmbedError::QueueFull), "the newest makes room");
    bench.order(Order::Answer);
    assert_eq!(bench.next_batch(), [5, 2]);
    bench.order(Order::Answer);
    for call in [running, first, urgent] {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn whoever_goes_away_costs_no_run_of_the_model() {
    let bench = Bench::new(2, 8);
    let running = bench.call(1, Priority::Live, None).await;
    assert_eq!(bench.next_batch(), [1]);
    let gone = bench.call(2, Priority::Live, None).await;
    let stays = bench.call(3, Priority::Live, None).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    // The queue is full, but with somebody who has gone.
    let last = bench.call(4, Priority::Live, None).await;
    bench.order(Order::Answer);
    assert_eq!(bench.next_batch(), [3, 4]);
    bench.order(Order::Answer);
    for call in [running, stays, last] {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_is_late_is_not_given_to_the_model() {
    let bench = Bench::new(8, 8);
    let running = bench.call(1, Priority::Live, None).await;
    assert_eq!(bench.next_batch(), [1]);
    let late = bench.call(2, Priority::Live, Some(Instant::now())).await;
    let in_time = bench.call(3, Priority::Bulk, Some(Instant::now() + Duration::from_secs(3600))).await;
    bench.order(Order::Answer);
    assert_eq!(bench.next_batch(), [3]);
    bench.order(Order::Answer);
    assert_eq!(late.await.unwrap(), Err(EmbedError::DeadlinePassed));
    running.await.unwrap().unwrap();
    in_time.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_failure_costs_its_batch_and_nothing_else() {
    let bench = Bench::new(8, 8);
    for (order, reason) in [(Order::Fail, "out of memory"), (Order::Panic, "panicked")] {
        let call = bench.call(1, Priority::Live, None).await;
        bench.next_batch();
        bench.order(order);
        match call.await.unwrap() {
            Err(EmbedError::Failed(actual)) => assert!(actual.contains(reason), "{actual}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
    // An answer that is no embedding costs only the picture it stands for.
    let running = bench.call(1, Priority::Live, None).await;
    bench.next_batch();
    let (zero, fine) = (bench.call(0, Priority::Live, None).await, bench.call(2, Priority::Live, None).await);
    bench.order(Order::Answer);
    assert_eq!(bench.next_batch(), [0, 2]);
    bench.order(Order::Answer);
    assert!(matches!(zero.await.unwrap(), Err(EmbedError::Failed(_))));
    running.await.unwrap().unwrap();
    fine.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_picture_of_another_size_is_refused() {
    let bench = Bench::new(8, 8);
    let refused = bench.embedder.embed(vec![0; 4], Priority::Live, None).await;
    assert_eq!(refused, Err(EmbedError::WrongSize { expected: 3, got: 4 }));
}

#[tokio::test]
async fn a_shutdown_answers_all_that_wait() {
    let bench = Bench::new(8, 8);
    let running = bench.call(1, Priority::Live, None).await;
    bench.next_batch();
    let waiting = bench.call(2, Priority::Live, None).await;
    bench.order(Order::Answer);
    bench.order(Order::Answer);
    let embedder = bench.embedder.clone();
    tokio::task::spawn_blocking(move || embedder.shutdown()).await.unwrap();
    running.await.unwrap().unwrap();
    // Either the run in progress ended before the shutdown and took it along, or it was turned away.
    assert!(matches!(waiting.await.unwrap(), Ok(_) | Err(EmbedError::ShuttingDown)));
    let after = bench.embedder.embed(vec![1, 0, 0], Priority::Live, None).await;
    assert_eq!(after, Err(EmbedError::ShuttingDown));
    bench.embedder.shutdown();
}

#[test]
fn the_threads_end_with_the_last_handle() {
    /// Tells when the thread that owned it has let go.
    struct Witness(#[expect(dead_code, reason = "only its end matters")] Arc<Mutex<()>>);
    impl Backend for Witness {
        fn embed(&mut self, _: &PixelBatch<'_>) -> Result<Vec<Result<Embedding, EmbeddingError>>, BackendError> {
            Ok(Vec::new())
        }
    }
    let alive = Arc::new(Mutex::new(()));
    let spec = ModelSpec { model_id: "witness@0".to_owned(), input: INPUT, dims: 2, metric: Metric::Cosine };
    let backends: Vec<Box<dyn Backend>> = vec![Box::new(Witness(Arc::clone(&alive))), Box::new(Witness(alive.clone()))];
    let embedder = Embedder::with_backends(spec, backends, &EmbedderOptions::default()).unwrap();
    let threads = embedder.take_threads();
    drop(embedder);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let spec = ModelSpec { model_id: "none@0".to_owned(), input: INPUT, dims: 2, metric: Metric::Cosine };
    let refused = Embedder::with_backends(spec.clone(), Vec::new(), &EmbedderOptions::default());
    assert!(matches!(refused, Err(InferenceError::Setting { setting: "workers" })));
    let options = EmbedderOptions { max_batch: Some(0), ..Default::default() };
    let refused = Embedder::with_backends(spec, Vec::new(), &options);
    assert!(matches!(refused, Err(InferenceError::Setting { setting: "max_batch" })));
}

#[test]
fn a_batch_suits_the_size_of_the_pictures_unless_it_is_set() {
    let of = |side: u32, max_batch| {
        let input = InputSize { width: side, height: side, fit: Fit::Stretch };
        EmbedderOptions { max_batch, ..Default::default() }.largest_batch(input)
    };
    assert_eq!([160, 192, 224, 96, 1, 4096].map(|side| of(side, None)), [4, 2, 2, 8, 8, 1]);
    assert_eq!(of(224, Some(5)), 5);
}
