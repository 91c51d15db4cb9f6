//! Where do frames come from? Out of a video by ffmpeg, one for each second, or out of a folder of pictures.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::cli::CliError;

/// Frames that wait to be shown; ffmpeg waits behind them.
const AHEAD: usize = 4;
/// No frame of [`WIDTH`] pixels is larger.
const MAX_FRAME_BYTES: usize = 16 << 20;
const WIDTH: u32 = 640;
const PICTURES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// What is to be played.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Pictures in the order of their names, a second each.
    Pictures(Vec<PathBuf>),
    /// What ffmpeg is to read.
    Video(String),
}

/// A picture file and where in the media it stands.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) at_s: f64,
    pub(super) bytes: Bytes,
}

/// Frames in their order.
#[derive(Debug)]
pub(super) struct Frames {
    receiver: mpsc::Receiver<Result<Frame, CliError>>,
    /// Ended when this is dropped.
    _ffmpeg: Option<Ffmpeg>,
}

#[derive(Debug)]
struct Ffmpeg(Child);

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Source {
    /// What `text` names.
    pub(super) fn of(text: &str) -> Result<Self, CliError> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Video(text.to_owned()));
        }
        let path = Path::new(text);
        let kind = std::fs::metadata(path).map_err(CliError::io(text))?;
        if !kind.is_dir() {
            // So that no name is taken for one of ffmpeg's protocols.
            return Ok(Self::Video(format!("file:{text}")));
        }
        let mut pictures = Vec::new();
        for entry in std::fs::read_dir(path).map_err(CliError::io(text))? {
            let file = entry.map_err(CliError::io(text))?.path();
            let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
            if PICTURES.contains(&extension.as_str()) {
                pictures.push(file);
            }
        }
        pictures.sort();
        if pictures.is_empty() {
            return Err(CliError::Failed(format!("{text}: has no pictures ({})", PICTURES.join(", "))));
        }
        Ok(Self::Pictures(pictures))
    }

    /// Begins to read, ahead of whoever takes the frames.
    pub(super) fn start(self, ffmpeg: &Path) -> Result<Frames, CliError> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        match self {
            Self::Pictures(files) => {
                spawn(move || {
                    for (n, file) in files.into_iter().enumerate() {
                        let read = std::fs::read(&file).map_err(CliError::io(file.display()));
                        let frame = read.map(|bytes| Frame { at_s: n as f64, bytes: bytes.into() });
                        let last = frame.is_err();
                        if sender.blocking_send(frame).is_err() || last {
                            return;
                        }
                    }
                })?;
                Ok(Frames { receiver, _ffmpeg: None })
            }
            Self::Video(input) => {
                let mut child = decoder(ffmpeg, &input).spawn().map_err(|error| not_started(ffmpeg, error))?;
                let (output, mut complaints) = (child.stdout.take(), child.stderr.take());
                spawn(move || {
                    let Some(output) = output else { return };
                    let mut output = BufReader::new(output);
                    let mut n = 0_u32;
                    loop {
                        let frame = match next_jpeg(&mut output) {
                            Ok(Some(bytes)) => Ok(Frame { at_s: f64::from(n), bytes: bytes.into() }),
                            Ok(None) if n == 0 => Err(CliError::Failed(said(complaints.take()))),
                            Ok(None) => return,
                            Err(error) => Err(CliError::io("what ffmpeg writes")(error)),
                        };
                        let last = frame.is_err();
                        if sender.blocking_send(frame).is_err() || last {
                            return;
                        }
                        n += 1;
                    }
                })?;
                Ok(Frames { receiver, _ffmpeg: Some(Ffmpeg(child)) })
            }
        }
    }
}

impl Frames {
    /// The next one; nothing at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Frame, CliError>> {
        self.receiver.recv().await
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    let thread = std::thread::Builder::new().name("upnext-frames".into());
    // It ends by itself: with the frames, or when nobody takes them any more.
    thread.spawn(work).map(drop).map_err(CliError::io("a thread cannot be started"))
}

fn not_started(ffmpeg: &Path, error: std::io::Error) -> CliError {
    if error.kind() != std::io::ErrorKind::NotFound {
        return CliError::io(ffmpeg.display())(error);
    }
    let hint = "is not installed, and videos need it; a folder of pictures can be watched without";
    CliError::Failed(format!("{} {hint}", ffmpeg.display()))
}

fn decoder(ffmpeg: &Path, input: &str) -> Command {
    let mut command = Command::new(ffmpeg);
    command.args([
        "-nostdin",
        "-loglevel",
        "error",
        "-protocol_whitelist",
        "file,http,https,tcp,tls,crypto",
        "-i",
        input,
    ]);
    let scale = format!("fps=1,scale='min({WIDTH},iw)':-2");
    command.args(["-an", "-sn", "-vf", &scale, "-c:v", "mjpeg", "-q:v", "4", "-f", "image2pipe", "-"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The end of what ffmpeg complained about.
fn said(complaints: Option<impl Read>) -> String {
    let mut text = String::new();
    if let Some(complaints) = complaints {
        // Whatever can be read of it is better than nothing.
        let _ = complaints.take(16 << 10).read_to_string(&mut text);
    }
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it has no frames");
    let clean: String = last.chars().filter(|c| !c.is_control()).collect();
    format!("ffmpeg cannot play it: {clean}")
}

/// The next JPEG of a stream of them, marker by marker (ITU-T T.81, annex B); nothing at the end.
fn next_jpeg(stream: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    if stream.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut file = vec![0; 2];
    stream.read_exact(&mut file)?;
    if file != [0xFF, 0xD8] {
        return Err(invalid("is no JPEG"));
    }
    loop {
        if file.len() > MAX_FRAME_BYTES {
            return Err(invalid("a frame is too large"));
        }
        let mut marker = [0; 2];
        stream.read_exact(&mut marker)?;
        file.extend(marker);
        match marker {
            [0xFF, 0xD9] => return Ok(Some(file)),
            [0xFF, 0xFF] => {
                return Err(invalid("has fill bytes between its segments"));
            }
            [0xFF, kind] => {
                let mut length = [0; 2];
                stream.read_exact(&mut length)?;
                file.extend(length);
                let rest = usize::from(u16::from_be_bytes(length)).saturating_sub(2);
                let from = file.len();
                file.resize(from + rest, 0);
                stream.read_exact(&mut file[from..])?;
                if kind == 0xDA && scan(stream, &mut file)? {
                    return Ok(Some(file));
                }
            }
            _ => return Err(invalid("has no marker where one must be")),
        }
    }
}

/// Copies entropy-coded data, in which FF is followed by 0 or a restart marker, up to the file's end (`true`) or a segment.
fn scan(stream: &mut impl BufRead, file: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let taken = stream.read_until(0xFF, file)?;
        let mut next = [0];
        if taken == 0 || file.len() > MAX_FRAME_BYTES {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        stream.read_exact(&mut next)?;
        file.extend(next);
        match next[0] {
            0xD9 => return Ok(true),
            0 | 0xD0..=0xD7 | 0xFF => {}
            _ => {
                // A further scan of a progressive picture begins with a segment, whose length follows.
                let mut length = [0; 2];
                stream.read_exact(&mut length)?;
                file.extend(length);
                let rest = u64::from(u16::from_be_bytes(length)).saturating_sub(2);
                stream.take(rest).read_to_end(file)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Catalogue;
    use crate::vision::thumbnail_jpeg;

    #[test]
    fn a_stream_of_jpegs_is_taken_apart() {
        let catalogue = Catalogue::generate(1, 24);
        let frame = |n: usize| thumbnail_jpeg(&catalogue.items()[n].artwork.frame_sized(3.0, 160, 90), 160).unwrap();
        let frames: Vec<Vec<u8>> = (0..3).map(frame).collect();
        let stream = frames.concat();
        let mut rest = stream.as_slice();
        for frame in &frames {
            assert_eq!(next_jpeg(&mut rest).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(next_jpeg(&mut rest).unwrap(), None);
        assert!(next_jpeg(&mut &stream[..frames[0].len() - 1]).is_err(), "cut off");
        assert!(next_jpeg(&mut &b"GIF89a"[..]).is_err());
        for length in [2, 3, 20, 200] {
            assert!(next_jpeg(&mut &stream[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_name_says_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        assert!(Source::of(&path).unwrap_err().to_string().contains("no pictures"));
        for name in ["2.jpg", "10.PNG", "1.webp", "notes.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let names = ["1.webp", "10.PNG", "2.jpg"].map(|name| dir.path().join(name));
        assert_eq!(Source::of(&path).unwrap(), Source::Pictures(names.into()));
        let file = format!("{path}/notes.txt");
        assert_eq!(Source::of(&file).unwrap(), Source::Video(format!("file:{file}")));
        assert_eq!(Source::of("https://a.example/v.mp4").unwrap(), Source::Video("https://a.example/v.mp4".into()));
        assert!(Source::of("concat:a|b").is_err());
    }
}
