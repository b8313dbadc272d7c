//! Group commit: one flush of the write-ahead log answers every writer whose commit came before it began.
//!
//! With `synchronous=NORMAL` a commit is in the log's file when the engine returns, but perhaps not on the disk.
//! Checkpoints flush by themselves before the log is begun anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use tokio::sync::oneshot;

type Waiter = oneshot::Sender<Result<(), Arc<io::Error>>>;

/// Flushes the log of a database on a thread of its own.
#[derive(Debug)]
pub struct Flusher {
    waiters: mpsc::Sender<Waiter>,
    count: Arc<AtomicU64>,
}

impl Flusher {
    /// Starts to flush the log of the database at `path`, which is open.
    ///
    /// # Errors
    /// The log can't be opened, or no thread be started.
    pub fn start(path: &Path) -> io::Result<Self> {
        let mut log_path = path.as_os_str().to_owned();
        log_path.push("-wal");
        let log = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(log_path)?;
        Self::of(log)
    }

    fn of(log: File) -> io::Result<Self> {
        let (sender, waiters) = mpsc::channel();
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        std::thread::Builder::new()
            .name("flush".into())
            .spawn(move || run(&log, &waiters, &counter))?;
        Ok(Self {
            waiters: sender,
            count,
        })
    }

    /// Waits until all that was committed before this call is on the disk.
    ///
    /// # Errors
    /// The disk failed. From then on every call fails: what the system still holds in memory can't be trusted to
    /// reach the disk later.
    pub async fn flushed(&self) -> io::Result<()> {
        let (waiter, answer) = oneshot::channel();
        let stopped = || io::Error::other("the flusher has stopped");
        self.waiters.send(waiter).map_err(|_| stopped())?;
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), error)),
            Err(_) => Err(stopped()),
        }
    }

    /// How many flushes there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

fn run(log: &File, waiters: &mpsc::Receiver<Waiter>, count: &AtomicU64) {
    let mut failed: Option<Arc<io::Error>> = None;
    while let Ok(first) = waiters.recv() {
        let mut together = vec![first];
        together.extend(waiters.try_iter());
        if failed.is_none() {
            count.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = log.sync_data() {
                tracing::error!(%error, "the disk failed; nothing more is accepted");
                failed = Some(Arc::new(error));
            }
        }
        for waiter in together {
            let answer = match &failed {
                None => Ok(()),
                Some(error) => Err(Arc::clone(error)),
            };
            // A writer that gave up waiting is not there any more.
            let _ = waiter.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[tokio::test]
    async fn once_the_disk_failed_nothing_is_answered_any_more() {
        // A pipe can't be flushed.
        let (_reader, log) = io::pipe().unwrap();
        let flusher = Flusher::of(File::from(OwnedFd::from(log))).unwrap();
        for _ in 0..2 {
            flusher.flushed().await.unwrap_err();
        }
        assert_eq!(flusher.count(), 1, "and it is not tried again");
    }
}
