//! Where does a line end? Cuts a stream of bytes at line breaks, with a bound on each line.

use std::time::Duration;

use axum::body::BodyDataStream;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;

use super::problem::ApiError;

/// For how long a sender may send nothing: whoever trickles holds a place that others could use.
const PATIENCE: Duration = Duration::from_secs(60);

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
}

impl Lines {
    pub(super) fn new(stream: BodyDataStream, limit_bytes: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), searched: 0, limit_bytes, skipping: false, ended: false }
    }

    /// The next line; `None` at the end. The last one needs no line break.
    pub(super) async fn next_line(&mut self) -> Result<Option<Line>, ApiError> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
                let text = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                if let Some(line) = self.finish(text.freeze()) {
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
                self.searched = 0;
                return Ok(self.finish(text));
            }
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            match next.map_err(|_| ApiError::InterruptedBody)? {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
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

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_rest_goes_on() {
        assert_eq!(lines(&["aaaa\nbb\n"], 3).await, ["too long", "bb"]);
        assert_eq!(lines(&["aa", "aa", "aa", "a\nbb\n"], 3).await, ["too long", "bb"]);
        assert_eq!(lines(&["bb\n", "aaaa", "aaaa"], 3).await, ["bb", "too long"]);
    }
}
