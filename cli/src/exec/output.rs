//! The command's output: where it goes, and its end for the report.
//!
//! The command writes to a file directly, and Thrum reads its end afterwards. For a pipe or a terminal, Thrum passes
//! the output on. When that fails, it closes the command's pipe, so that the command sees the failure with its
//! next write.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// How many bytes of the output's end are reported.
const KEPT: u64 = 10_000;
/// The most that a pipe can hold when the command ends, in bytes. More comes from a process that it left in the
/// background.
const PIPE: usize = 1 << 20;
/// The exit status of a process that SIGPIPE ended.
const BROKEN_PIPE: u8 = 141;

/// The command that passes the output of a background process on, after the command has ended.
const PASS: &str = "exec-pass";

type Tail = Arc<Mutex<Vec<u8>>>;

/// The output of a command that runs.
pub struct Outputs {
    tail: Tail,
    files: Vec<Followed>,
    pipes: Vec<JoinHandle<Passed>>,
    /// Dropped when the command has ended.
    running: PipeWriter,
}

/// What the command gets as its output; `None` for the same descriptor.
#[derive(Default)]
pub struct Streams {
    stdout: Option<PipeWriter>,
    stderr: Option<PipeWriter>,
}

/// Output that could not be written.
pub struct Lost {
    name: &'static str,
    error: io::Error,
}

/// The outcome of passing output on.
enum Passed {
    /// At the end of the output.
    Complete,
    /// With the command, while another process has the pipe.
    Left(PipeReader, File),
    /// With an error.
    Lost(Lost),
}

/// A file that the command writes itself.
struct Followed {
    file: File,
    start: u64,
}

impl Outputs {
    /// Decides how the output of a command reaches the descriptors of this process.
    pub fn plan(keep: bool) -> io::Result<(Self, Streams)> {
        let (ended, running) = io::pipe()?;
        let mut outputs = Self {
            tail: Tail::default(),
            files: Vec::new(),
            pipes: Vec::new(),
            running,
        };
        let mut streams = Streams::default();
        if !keep {
            return Ok((outputs, streams));
        }
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        // With one pipe for both, their lines keep their order.
        let same = is_same(&stdout, &stderr)?;
        if let Some(file) = Followed::new(&stdout)? {
            outputs.files.push(file);
        } else {
            streams.stdout = Some(outputs.pass("stdout", stdout, ended.try_clone()?)?);
        }
        if same {
            streams.stderr = streams
                .stdout
                .as_ref()
                .map(PipeWriter::try_clone)
                .transpose()?;
        } else if let Some(file) = Followed::new(&stderr)? {
            outputs.files.push(file);
        } else {
            streams.stderr = Some(outputs.pass("stderr", stderr, ended)?);
        }
        Ok((outputs, streams))
    }

    /// Starts to pass output on to `to`.
    fn pass(&mut self, name: &'static str, to: File, ended: PipeReader) -> io::Result<PipeWriter> {
        let (from, writer) = io::pipe()?;
        let tail = Arc::clone(&self.tail);
        self.pipes.push(std::thread::spawn(move || {
            pass_on(name, from, to, &ended, &tail)
        }));
        Ok(writer)
    }

    /// After the command has ended: the end of its output, and what could not be written.
    pub fn finish(self) -> (Vec<u8>, Option<Lost>) {
        drop(self.running);
        let mut lost = None;
        for pipe in self.pipes {
            match pipe.join() {
                Ok(Passed::Complete) | Err(_) => {}
                Ok(Passed::Left(from, to)) => leave(from, to),
                Ok(Passed::Lost(first)) => lost = lost.or(Some(first)),
            }
        }
        let mut tail = Vec::new();
        for file in &self.files {
            // Without it, the report has less output.
            let _ = file.read_end(&mut tail);
        }
        tail.extend_from_slice(&self.tail.lock().unwrap_or_else(PoisonError::into_inner));
        (tail, lost)
    }
}

impl Streams {
    /// Connects the output of `command`.
    pub fn connect(&self, command: &mut Command) -> io::Result<()> {
        if let Some(stdout) = &self.stdout {
            command.stdout(stdout.try_clone()?);
        }
        if let Some(stderr) = &self.stderr {
            command.stderr(stderr.try_clone()?);
        }
        Ok(())
    }
}

impl Followed {
    /// The part of a regular file that a command will write; `None` if it is something else, or can't be read.
    fn new(written: &File) -> io::Result<Option<Self>> {
        let metadata = written.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let appends = fcntl_getfl(written)?.contains(OFlags::APPEND);
        let mut position = written;
        let start = match appends {
            true => metadata.len(),
            false => position.stream_position()?,
        };
        // It may be open for writing only.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(written));
        let readable = File::open(path).is_ok();
        let file = written.try_clone()?;
        Ok(readable.then_some(Self { file, start }))
    }

    /// Appends the end of what was written to `tail`.
    fn read_end(&self, tail: &mut Vec<u8>) -> io::Result<()> {
        // The position is shared with the command.
        let mut position = &self.file;
        let end = position.stream_position()?;
        // One byte more shows that there is more.
        let start = self.start.max(end.saturating_sub(KEPT + 1));
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&self.file)
        );
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        file.take(end.saturating_sub(start)).read_to_end(tail)?;
        Ok(())
    }
}

impl Lost {
    /// Whether the reader has closed its end, as in `… | head`.
    pub fn is_closed_pipe(&self) -> bool {
        self.error.kind() == ErrorKind::BrokenPipe
    }

    /// The exit status of a command that did not see the failure itself.
    pub fn exit_code(&self) -> u8 {
        if self.is_closed_pipe() {
            BROKEN_PIPE
        } else {
            1
        }
    }
}

impl Display for Lost {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "can't write to {}: {}", self.name, self.error)
    }
}

/// The end of an output, of at most [`KEPT`] bytes. If something is missing before it, it begins with an ellipsis, and
/// not within a character.
pub fn end_of(mut output: Vec<u8>) -> Vec<u8> {
    const ELLIPSIS: &[u8] = "…".as_bytes();
    let kept = usize::try_from(KEPT).unwrap_or(0);
    if output.len() <= kept {
        return output;
    }
    let mut start = output.len() - (kept - ELLIPSIS.len());
    let is_within = |b: u8| b & 0xc0 == 0x80;
    let skipped = output[start..]
        .iter()
        .take(3)
        .take_while(|b| is_within(**b));
    start += skipped.count();
    output.splice(..start, ELLIPSIS.iter().copied());
    output
}

fn is_same(a: &File, b: &File) -> io::Result<bool> {
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Passes output on and keeps its end, until the pipe is closed, or the command has ended and what it wrote is
/// passed on.
fn pass_on(
    name: &'static str,
    mut from: PipeReader,
    mut to: File,
    ended: &PipeReader,
    tail: &Tail,
) -> Passed {
    let lost = |error| Passed::Lost(Lost { name, error });
    let mut buffer = vec![0; 65_536];
    // How many bytes to pass on after the command has ended.
    let mut rest = None;
    loop {
        match wait_for(&from, ended, &mut rest) {
            Ok(true) => {}
            Ok(false) => return Passed::Left(from, to),
            Err(error) => return lost(error),
        }
        let n = match from.read(&mut buffer) {
            Ok(0) => return Passed::Complete,
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return lost(error),
        };
        if let Err(error) = write_all(&mut to, &buffer[..n]) {
            return lost(error);
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&buffer[..n]);
        // One byte more shows that there is more.
        let excess = tail
            .len()
            .saturating_sub(usize::try_from(KEPT + 1).unwrap_or(0));
        tail.drain(..excess);
        rest = rest.map(|rest: usize| rest.saturating_sub(n));
    }
}

/// Waits until there is something to read, or the end; `false` if the command has ended and there is nothing left
/// of it.
fn wait_for(from: &PipeReader, ended: &PipeReader, rest: &mut Option<usize>) -> io::Result<bool> {
    if rest.is_none() {
        let mut both = [readable(from.as_fd()), readable(ended.as_fd())];
        poll_through(&mut both, None)?;
        if both[1].revents().is_empty() {
            return Ok(true);
        }
        *rest = Some(PIPE);
    }
    let mut one = [readable(from.as_fd())];
    poll_through(
        &mut one,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )?;
    Ok(!one[0].revents().is_empty() && *rest != Some(0))
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}

fn poll_through(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<()> {
    loop {
        match poll(fds, timeout) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map(drop).map_err(Into::into),
        }
    }
}

/// Writes everything, also where another process has made the descriptor non-blocking.
fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll_through(&mut [PollFd::new(to, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Leaves the output of a background process to a process of its own, which ends with it.
fn leave(from: PipeReader, to: File) {
    let started = std::env::current_exe().and_then(|thrum| {
        let mut pass = Command::new(thrum);
        pass.arg(PASS).stdin(from).stdout(to).stderr(Stdio::null());
        pass.spawn()
    });
    if let Err(error) = started {
        say!("can't pass on the output of a background process: {error}");
    }
}

/// `thrum exec-pass`: passes stdin on to stdout.
pub fn pass() -> io::Result<()> {
    let from = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut to = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut from = io::BufReader::new(from);
    io::copy(&mut from, &mut to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_is_cut_before_a_character() {
        assert_eq!(end_of(b"short".to_vec()), b"short");
        let kept = end_of("ü".repeat(6_000).into_bytes());
        let kept = String::from_utf8(kept).expect("whole characters");
        assert!(kept.starts_with("…ü") && kept.len() <= 10_000 && kept.len() > 9_990);
        let binary = end_of(vec![0xff; 20_000]);
        assert_eq!(binary.len(), 10_000);
    }
}
