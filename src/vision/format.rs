//! What kind of file is this? Told from its first bytes; names and content types lie.

/// A kind of file that [`decode`](super::decode) reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
}

impl Format {
    /// The kind of `bytes`; `Err` names a known kind that is not read, or `None` if the bytes say nothing.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, Option<&'static str>> {
        if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
            Ok(Self::Jpeg)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Ok(Self::Png)
        } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
            Ok(Self::Gif)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Ok(Self::WebP)
        } else if is_bmp(bytes) {
            Ok(Self::Bmp)
        } else {
            Err(name_of_other(bytes))
        }
    }
}

/// `BM` alone also starts words; the size of the second header has few legal values.
fn is_bmp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"BM") && matches!(bytes.get(14..18), Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

/// The names of kinds that people do send although they are not read.
fn name_of_other(bytes: &[u8]) -> Option<&'static str> {
    const SIGNATURES: [(&[u8], &str); 24] = [
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
        (b"II+\0", "tiff"),
        (b"MM\0+", "tiff"),
        (b"%PDF", "pdf"),
        (b"\xFF\x0A", "jpeg-xl"),
        (b"\0\0\0\x0CJXL ", "jpeg-xl"),
        (b"\0\0\0\x0CjP  ", "jpeg-2000"),
        (b"\xFF\x4F\xFF\x51", "jpeg-2000"),
        (b"\0\0\x01\0", "ico"),
        (b"8BPS", "psd"),
        (b"qoif", "qoi"),
        (b"\x76\x2f\x31\x01", "openexr"),
        (b"DDS ", "dds"),
        (b"farbfeld", "farbfeld"),
        (b"#?RADIANCE", "hdr"),
        (b"\x1A\x45\xDF\xA3", "matroska"),
        (b"RIFF", "riff"),
        (b"OggS", "ogg"),
        (b"FLV", "flv"),
        (b"PK\x03\x04", "zip"),
        (b"\x1F\x8B", "gzip"),
        (b"%!PS", "postscript"),
        (b"\xD7\xCD\xC6\x9A", "wmf"),
    ];
    if let Some((_, name)) = SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature)) {
        return Some(name);
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return Some(match bytes.get(8..12) {
            Some(b"avif" | b"avis") => "avif",
            Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => "heic",
            _ => "mp4",
        });
    }
    if let [b'P', b'1'..=b'7', space, ..] = bytes
        && space.is_ascii_whitespace()
    {
        return Some("pnm");
    }
    name_of_markup(bytes)
}

/// Markup may begin with a byte order mark, white space, a declaration and comments, so the first kilobyte is searched.
fn name_of_markup(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    if !start.starts_with(b"<") {
        return None;
    }
    let head = start[..start.len().min(1024)].to_ascii_lowercase();
    let holds = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    if holds(b"<html") || holds(b"<!doctype html") {
        Some("html")
    } else if holds(b"<svg") {
        Some("svg")
    } else if holds(b"<?xml") {
        Some("xml")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        assert_eq!(Format::of(b"\xFF\xD8\xFF\xE0rest"), Ok(Format::Jpeg));
        assert_eq!(Format::of(b"RIFF\x10\0\0\0WEBPVP8 "), Ok(Format::WebP));
        assert_eq!(Format::of(b"BMW is a maker of cars, not a picture"), Err(None));
        assert_eq!(Format::of(b""), Err(None));
        assert_eq!(Format::of(b"\xFF\xD8"), Err(None));
    }

    #[test]
    fn other_kinds_are_named() {
        for (bytes, name) in [
            (&b"II*\0\x08\0\0\0"[..], "tiff"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "avif"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "heic"),
            (b"\0\0\0\x18ftypisom\0\0\0\0", "mp4"),
            (b"%PDF-1.7", "pdf"),
            (b"\xEF\xBB\xBF<?xml version='1.0'?>\n<!-- a drawing -->\n<svg xmlns='x'/>", "svg"),
            (b"  <!DOCTYPE HTML><html></html>", "html"),
            (b"RIFF\x10\0\0\0WAVEfmt ", "riff"),
            (b"P6\n1 1\n255\n", "pnm"),
        ] {
            assert_eq!(Format::of(bytes), Err(Some(name)));
        }
        assert_eq!(Format::of(b"hello"), Err(None));
    }
}
