//! A message, in parts.

use crate::time::UnixMs;
use std::fmt::Write;

/// Longest output of a job in a message, in bytes.
pub const MAX_OUTPUT: usize = 1_500;

/// What happened, as far as a receiver that keeps incidents has to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum News {
    /// Something broke.
    Down,
    /// It is still broken.
    Reminder,
    /// It works again.
    Up,
    /// Something worth knowing.
    #[default]
    Info,
}

/// A named value in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Its name.
    pub label: &'static str,
    /// The value, in one line.
    pub value: String,
}

/// A message, in parts. All of them are plain text: what lays them out must escape them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub news: News,
    /// What it is about: the same text for a monitor's every alert, so that a receiver can close an
    /// incident. Contains no secret.
    pub key: String,
    /// When it happened.
    pub at: UnixMs,
    /// What happened, in one line.
    pub title: String,
    /// What happened, since when, and why, in sentences; of a group, a line for each member.
    pub text: String,
    /// What else helps.
    pub facts: Vec<Fact>,
    /// What the user wrote about the monitor.
    pub description: Option<String>,
    /// The last lines of the job's output.
    pub output: Option<String>,
    /// Where to read more, acknowledge and snooze.
    pub link: Option<String>,
    /// What the link is good for.
    pub link_label: &'static str,
    /// The monitor's tags.
    pub tags: Vec<String>,
}

impl Notice {
    /// Everything but the title, as plain text.
    pub fn body(&self) -> String {
        let mut text = self.text.clone();
        if !self.facts.is_empty() {
            text.push('\n');
        }
        for Fact { label, value } in &self.facts {
            let _ = write!(text, "\n{label}: {value}");
        }
        if let Some(description) = &self.description {
            let _ = write!(text, "\n\n{}", description.trim());
        }
        if let Some(output) = &self.output {
            let _ = write!(text, "\n\nLast output:\n");
            for line in output.lines() {
                let _ = writeln!(text, "    {line}");
            }
            text.truncate(text.trim_end().len());
        }
        if let Some(link) = &self.link {
            let _ = write!(text, "\n\n{}: {link}", self.link_label);
        }
        text
    }
}

/// Replaces line breaks and control characters by spaces, so that the text is safe in a mail
/// header.
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The last lines of a job's output, as text for a message: valid, without control characters but for
/// line breaks and tabs, and at most [`MAX_OUTPUT`] bytes. `None` if nothing is left.
pub fn tail(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let mut clean: String = text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    clean.truncate(clean.trim_end().len());
    if clean.len() > MAX_OUTPUT {
        let mut from = clean.len() - MAX_OUTPUT + '…'.len_utf8() + 1;
        while !clean.is_char_boundary(from) {
            from += 1;
        }
        // Whole lines, unless the last one is very long.
        let cut = clean[from..].find('\n').filter(|at| *at < MAX_OUTPUT / 2);
        let from = cut.map_or(from, |at| from + at + 1);
        clean = format!("…\n{}", &clean[from..]);
    }
    let blank = clean.chars().all(char::is_whitespace);
    (!blank).then_some(clean)
}
