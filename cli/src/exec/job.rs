//! Runs the command, and passes signals on to it.

use super::output::{Outputs, Streams, end_of};
use anyhow::Context;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// What signals are for.
enum Phase {
    /// The command, which runs.
    Running(Pid),
    /// Thrum's report.
    Reporting(Reporting),
}

/// The command has ended with an exit code.
struct Reporting {
    code: u8,
    since: Instant,
}

impl Reporting {
    fn of(code: u8) -> Phase {
        let since = Instant::now();
        Phase::Reporting(Self { code, since })
    }
}

/// A signal so soon after the end of the command was for the command: one to the whole process group ends the command, and
/// may be handled here only after that.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Runs a command until it ends, and keeps the end of its output if `keep` is set.
pub fn run(command: &[String], keep: bool) -> anyhow::Result<Ended> {
    // Before the command starts, so that no signal is lost.
    let ignored = ignored_signals();
    let is_ignored = |signal: i32| ignored & 1 << (signal - 1) != 0;
    let passed_on = SIGNALS.into_iter().map(|(number, _)| number);
    let passed_on = passed_on.filter(|signal| !is_ignored(*signal));
    // If SIGCHLD is ignored, the kernel forgets how the command ended.
    let ends = Some(SIGCHLD).filter(|signal| is_ignored(*signal));
    let signals = SignalsInfo::<WithOrigin>::new(passed_on.chain(ends))?;
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
            let code = if found { NOT_EXECUTABLE } else { NOT_FOUND };
            let phase = Arc::new(Mutex::new(Reporting::of(code)));
            std::thread::spawn(move || handle(signals, &phase));
            return Ok(Ended {
                code,
                output: format!("thrum: {text}").into_bytes(),
            });
        }
    };
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has an ID")?;
    let phase = Arc::new(Mutex::new(Phase::Running(pid)));
    {
        let phase = Arc::clone(&phase);
        std::thread::spawn(move || handle(signals, &phase));
    }
    let status = wait(&mut child, pid, &phase)?;
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
    Ok(Ended {
        code,
        output: end_of(output),
    })
}

/// Passes signals on while the command runs, and ends the process when it only reports.
///
/// Skips signals from the kernel (Ctrl-C, a closed terminal): the command's process group gets them, too. Only if this
/// process leads the session, a closed terminal sends SIGHUP to nobody else.
fn handle(mut signals: SignalsInfo<WithOrigin>, phase: &Mutex<Phase>) {
    let leads = leads_session();
    for Origin { signal, cause, .. } in &mut signals {
        let Some((number, signal)) = SIGNALS.iter().find(|(number, _)| *number == signal) else {
            continue;
        };
        let is_sent = cause == Cause::Kernel && !(leads && *number == SIGHUP);
        match &*phase.lock().unwrap_or_else(PoisonError::into_inner) {
            Phase::Running(_) if is_sent => {}
            Phase::Running(pid) => {
                // An error means that the process has ended.
                let _ = kill_process(*pid, *signal);
            }
            Phase::Reporting(Reporting { since, .. }) if since.elapsed() < SAME_SIGNAL => {}
            Phase::Reporting(_) if matches!(*number, SIGUSR1 | SIGUSR2) => {}
            Phase::Reporting(Reporting { code, .. }) => std::process::exit((*code).into()),
        }
    }
}

/// Waits for the command. Its process id is forgotten before another process can get it.
fn wait(child: &mut Child, pid: Pid, phase: &Mutex<Phase>) -> std::io::Result<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
    let mut phase = phase.lock().unwrap_or_else(PoisonError::into_inner);
    let status = child.wait()?;
    *phase = Reporting::of(exit_code(status));
    Ok(status)
}

/// The signals that were ignored when this process started, as SIGHUP is below `nohup`, as bits: the command must
/// ignore them, too.
fn ignored_signals() -> u64 {
    let mask = of_status("SigIgn:");
    mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok())
        .unwrap_or(0)
}

/// Whether this process leads its session. In a container, the leader may be outside and its ID is 0, which rustix's
/// `getsid` does not allow.
fn leads_session() -> bool {
    of_status("NSsid:").is_some_and(|leader| leader == std::process::id().to_string())
}

/// What the kernel says about this process. In nested PID namespaces it has several IDs; the last one belongs to its own
/// namespace.
fn of_status(name: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().last().map(str::to_owned)
}

/// Starts the command. Like a shell, runs a script without an interpreter line by `sh`.
fn start(command: &[String], streams: &Streams) -> std::io::Result<Child> {
    let mut job = Command::new(&command[0]);
    job.args(&command[1..]);
    streams.connect(&mut job)?;
    match job.spawn() {
        Err(error) if error.raw_os_error() == Some(NO_FORMAT) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg(found(&command[0])).args(&command[1..]);
            streams.connect(&mut shell)?;
            shell.spawn()
        }
        started => started,
    }
}

/// The file of a command: `sh` does not look for its script in PATH.
fn found(command: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = |folder: PathBuf| {
        let file = folder.join(command);
        let mode = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        (mode.permissions().mode() & 0o111 != 0).then_some(file)
    };
    match command.contains('/') {
        true => command.into(),
        false => std::env::split_paths(&path)
            .find_map(in_path)
            .unwrap_or_else(|| command.into()),
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map(|signal| 128 + signal);
    let code = status.code().or_else(signal);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
