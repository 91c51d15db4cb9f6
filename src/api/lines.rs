//! Where does a line end? Cuts a stream of bytes at line breaks, with a bound on each line.

use std::time::{Duration, Instant};

use axum::body::BodyDataStream;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;

use super::problem::ApiError;

/// For how long a line may be waited for, and how many bytes of it earn another second: whoever trickles holds a place that others could
/// use.
const PATIENCE: Duration = Duration::from_secs(60);
const BYTES_A_SECOND: usize = 8 << 10;

/// For how much longer to wait for a line, of which so many bytes have come.
fn patience_left(waited: Duration, received: usize) -> Duration {
    (PATIENCE + Duration::from_secs((received / BYTES_A_SECOND) as u64)).saturating_sub(waited)
}

/// A line of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its bytes, without the line break.
    Text(Bytes),
    /// It was longer than allowed and is gone.
    TooLong,
}

/// The lines of a body that are not blank.
#[derive(Debug)]
pub(super) struct Lines {
    stream: BodyDataStream,
    buffer: BytesMut,
    /// So much of the buffer is known to hold no line break.
    searched: usize,
    limit_bytes: usize,
    skipping: bool,
    ended: bool,
    /// Since the last line: how long was waited, and for how many bytes.
    waited: Duration,
    received: usize,
}

impl Lines {
    pub(super) fn new(stream: BodyDataStream, limit_bytes: usize) -> Self {
        let buffer = BytesMut::new();
        let waited = Duration::ZERO;
        Self { stream, buffer, searched: 0, limit_bytes, skipping: false, ended: false, waited, received: 0 }
    }

    /// The next line; `None` at the end. The last one needs no line break.
    pub(super) async fn next_line(&mut self) -> Result<Option<Line>, ApiError> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
                let text = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                if let Some(line) = self.finish(text.freeze()) {
                    (self.waited, self.received) = (Duration::ZERO, 0);
                    return Ok(Some(line));
                }
                continue;
            }
            self.searched = self.buffer.len();
            if self.searched > self.limit_bytes {
                self.skipping = true;
            }
            if self.skipping {
                self.buffer.clear();
                self.searched = 0;
            }
            if self.ended {
                let text = self.buffer.split().freeze();
                (self.searched, self.waited, self.received) = (0, Duration::ZERO, 0);
                return Ok(self.finish(text));
            }
            let began = Instant::now();
            let left = patience_left(self.waited, self.received);
            let next = tokio::time::timeout(left, self.stream.next()).await;
            self.waited += began.elapsed();
            match next.map_err(|_| ApiError::InterruptedBody)? {
                Some(Ok(chunk)) => {
                    self.received = self.received.saturating_add(chunk.len());
                    self.buffer.extend_from_slice(&chunk);
                }
                Some(Err(_)) => return Err(ApiError::InterruptedBody),
                None => self.ended = true,
            }
        }
    }

    fn finish(&mut self, text: Bytes) -> Option<Line> {
        if std::mem::take(&mut self.skipping) || text.len() > self.limit_bytes {
            return Some(Line::TooLong);
        }
        (!text.iter().all(u8::is_ascii_whitespace)).then_some(Line::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn lines(chunks: &[&'static str], limit_bytes: usize) -> Vec<String> {
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            chunks.iter().map(|c| Ok(Bytes::from_static(c.as_bytes()))).collect();
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        let mut lines = Lines::new(body.into_data_stream(), limit_bytes);
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            all.push(match line {
                Line::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                Line::TooLong => "too long".into(),
            });
        }
        all
    }

    #[tokio::test]
    async fn lines_survive_any_cut() {
        assert_eq!(lines(&["a\nb", "b\n", "\n \r\n", "c"], 10).await, ["a", "bb", "c"]);
        assert_eq!(lines(&["a\nbb\nc\n"], 10).await, ["a", "bb", "c"]);
        assert!(lines(&["", "\n\n"], 10).await.is_empty());
    }

    #[test]
    fn who_is_slow_earns_time_and_who_trickles_does_not() {
        let second = Duration::from_secs(1);
        assert_eq!(patience_left(Duration::ZERO, 0), PATIENCE);
        assert_eq!(patience_left(59 * second, 59), second, "a byte a second");
        assert_eq!(patience_left(61 * second, 61), Duration::ZERO);
        assert_eq!(patience_left(600 * second, 600 * BYTES_A_SECOND), PATIENCE, "a large line on a slow network");
        assert!(patience_left(Duration::ZERO, usize::MAX) > PATIENCE);
    }

    #[tokio::test]
    async fn a_sender_that_took_too_long_is_given_up() {
        let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut lines = Lines::new(body.into_data_stream(), 10);
        lines.waited = PATIENCE;
        assert!(matches!(lines.next_line().await, Err(ApiError::InterruptedBody)));
    }

    #[tokio::test]
    async fn only_a_line_renews_patience() {
        let pieces = ["a", "\n\n \n", "b"].map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())));
        let mut lines = Lines::new(Body::from_stream(futures_util::stream::iter(pieces)).into_data_stream(), 10);
        lines.waited = Duration::from_secs(50);
        assert!(matches!(lines.next_line().await, Ok(Some(Line::Text(_)))));
        assert_eq!((lines.waited, lines.received), (Duration::ZERO, 0));
        lines.waited = Duration::from_secs(50);
        assert!(matches!(lines.next_line().await, Ok(Some(Line::Text(_)))), "blank lines before it");
        assert_eq!(lines.received, 0);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_rest_goes_on() {
        assert_eq!(lines(&["aaaa\nbb\n"], 3).await, ["too long", "bb"]);
        assert_eq!(lines(&["aa", "aa", "aa", "a\nbb\n"], 3).await, ["too long", "bb"]);
        assert_eq!(lines(&["bb\n", "aaaa", "aaaa"], 3).await, ["bb", "too long"]);
    }
}
