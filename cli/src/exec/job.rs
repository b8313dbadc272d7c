//! Runs the command, and passes signals on to it.

use super::output::{Outputs, Streams};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

/// The exit statuses that shells use for a command that can't be executed, and for one that does not exist.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// The error of a script without an interpreter line, which shells run themselves.
const NO_FORMAT: i32 = 8;

/// The signals that are passed on.
const SIGNALS: [(i32, Signal); 6] = [
    (SIGHUP, Signal::HUP),
    (SIGINT, Signal::INT),
    (SIGQUIT, Signal::QUIT),
    (SIGTERM, Signal::TERM),
    (SIGUSR1, Signal::USR1),
    (SIGUSR2, Signal::USR2),
];

/// A command that has ended.
pub struct Ended {
    /// Its exit code, as a shell has it.
    pub code: u8,
    /// The end of its output.
    pub output: Vec<u8>,
}

/// Runs a command until it ends, and keeps the end of its output if `keep` is set.
pub fn run(command: &[String], keep: bool) -> anyhow::Result<Ended> {
    // Before the command starts, so that no signal is lost.
    let ignored = ignored_signals();
    let signals = SIGNALS.into_iter().map(|(number, _)| number);
    let signals =
        SignalsInfo::<WithOrigin>::new(signals.filter(|signal| ignored & 1 << (signal - 1) == 0))?;
    let handle = signals.handle();
    let (outputs, streams) = Outputs::plan(keep)?;
    let started = start(command, &streams);
    // The command has the only writing ends.
    drop(streams);
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            let text = format!("can't run {}: {error}", command[0]);
            say!("{text}");
            let found = error.kind() != std::io::ErrorKind::NotFound;
            return Ok(Ended {
                code: if found { NOT_EXECUTABLE } else { NOT_FOUND },
                output: format!("thrum: {text}").into_bytes(),
            });
        }
    };
    let target = Arc::new(Mutex::new(Pid::from_raw(i32::try_from(child.id())?)));
    let forwarding = {
        let target = Arc::clone(&target);
        std::thread::spawn(move || forward(signals, &target))
    };
    let status = wait(&mut child, &target)?;
    handle.close();
    let _ = forwarding.join();
    let (mut output, lost) = outputs.finish();
    let mut code = exit_code(status);
    if let Some(lost) = lost {
        let text = format!("the command's output is incomplete: {lost}");
        output.extend_from_slice(format!("\nthrum: {text}\n").as_bytes());
        // A closed pipe is usual, as in `… | head`: without Thrum, the command would die silently.
        if !lost.is_closed_pipe() {
            say!("{text}");
        }
        if code == 0 {
            code = lost.exit_code();
        }
    }
    Ok(Ended { code, output })
}

/// Passes signals on, until the command has ended. Those that the kernel sends, for Ctrl-C or a closed
/// terminal, go to the whole process group, and so to the command already.
fn forward(mut signals: SignalsInfo<WithOrigin>, target: &Mutex<Option<Pid>>) {
    for Origin { signal, cause, .. } in &mut signals {
        let target = target.lock().unwrap_or_else(PoisonError::into_inner);
        let known = SIGNALS.iter().find(|(number, _)| *number == signal);
        if cause != Cause::Kernel
            && let (Some(pid), Some((_, signal))) = (*target, known)
        {
            // An error means that the process has ended.
            let _ = kill_process(pid, *signal);
        }
    }
}

/// Waits for the command. Its process id is forgotten before another process can get it.
fn wait(child: &mut Child, target: &Mutex<Option<Pid>>) -> std::io::Result<ExitStatus> {
    let pid = *target.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pid) = pid {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
    }
    *target.lock().unwrap_or_else(PoisonError::into_inner) = None;
    child.wait()
}

/// The signals that were ignored when this process started, as SIGHUP is below `nohup`, as bits: the command must
/// ignore them, too.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Starts the command. Like a shell, runs a script without an interpreter line by `sh`.
fn start(command: &[String], streams: &Streams) -> std::io::Result<Child> {
    let mut job = Command::new(&command[0]);
    job.args(&command[1..]);
    streams.connect(&mut job)?;
    match job.spawn() {
        Err(error) if error.raw_os_error() == Some(NO_FORMAT) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(command);
            streams.connect(&mut shell)?;
            shell.spawn()
        }
        started => started,
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map(|signal| 128 + signal);
    let code = status.code().or_else(signal);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
