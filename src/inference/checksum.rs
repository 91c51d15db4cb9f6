//! Is this the file that was meant? SHA-256 and its hexadecimal digits.

use std::fmt::Write as _;
use std::io::{self, Read};

/// The SHA-256 of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    finish(ring::digest::digest(&ring::digest::SHA256, bytes))
}

/// The SHA-256 of `bytes` in hexadecimal digits, as manifests have it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}

/// The SHA-256 of all that `reader` gives.
pub(super) fn sha256_of(mut reader: impl Read) -> io::Result<[u8; 32]> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(finish(context.finish())),
            Ok(count) => context.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads the 64 digits of a SHA-256; `None` if they are anything else.
pub(super) fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; 32];
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(out)
}

fn finish(digest: ring::digest::Digest) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_back() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(&sha256(b"")), empty);
        assert_eq!(parse_sha256(empty), Some(sha256(b"")));
        assert_eq!(parse_sha256(&empty[1..]), None);
        assert_eq!(parse_sha256(&empty.replace('e', "+")), None);
    }

    #[test]
    fn streams_have_the_hash_of_their_bytes() {
        let bytes = vec![42; 200_000];
        assert_eq!(sha256_of(bytes.as_slice()).unwrap(), sha256(&bytes));
    }
}
