//! Lays out a message as text with markup: each part is escaped by itself, and what is too long is
//! shortened before it is escaped, so that neither a character nor an entity is ever cut in two.

use thrum_schema::notice::{Fact, Notice};

/// How a service writes text.
#[derive(Debug, Clone, Copy)]
pub struct Markup {
    /// Escapes plain text.
    pub text: fn(&str) -> String,
    /// Bold text.
    pub strong: fn(&str) -> String,
    /// Lines of output.
    pub block: fn(&str) -> String,
    /// A link: label and URL.
    pub link: fn(&str, &str) -> String,
    /// Between two lines.
    pub newline: &'static str,
}

/// Plain text, for services without markup.
pub const PLAIN: Markup = Markup {
    text: str::to_owned,
    strong: str::to_owned,
    block: str::to_owned,
    link: |label, url| format!("{label}: {url}"),
    newline: "\n",
};

/// Markdown as Discord, Mattermost and Rocket.Chat read it.
pub const MARKDOWN: Markup = Markup {
    text: markdown,
    strong: |text| format!("**{}**", markdown(text)),
    block: |text| format!("```\n{}\n```", fence(text)),
    link: |label, url| format!("[{label}]({})", bare(url)),
    newline: "\n",
};

/// Slack's mrkdwn, which Google Chat reads, too. <https://docs.slack.dev/messaging/formatting-message-text>
pub const MRKDWN: Markup = Markup {
    text: mrkdwn,
    strong: |text| format!("*{}*", mrkdwn(text).replace('*', "\u{2217}")),
    block: |text| format!("```\n{}\n```", mrkdwn(&fence(text))),
    link: |label, url| format!("<{}|{label}>", bare(url)),
    newline: "\n",
};

/// The HTML that Telegram and Matrix read.
pub const HTML: Markup = Markup {
    text: html,
    strong: |text| format!("<b>{}</b>", html(text)),
    block: |text| format!("<pre>{}</pre>", html(text)),
    link: |label, url| format!("<a href=\"{}\">{}</a>", html(url), html(label)),
    newline: "\n",
};

/// HTML whose lines end with a tag.
pub const HTML_LINES: Markup = Markup {
    newline: "<br>",
    ..HTML
};

/// Escapes HTML.
pub fn html(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut html, c| {
            match c {
                '&' => html.push_str("&amp;"),
                '<' => html.push_str("&lt;"),
                '>' => html.push_str("&gt;"),
                '"' => html.push_str("&quot;"),
                '\'' => html.push_str("&#39;"),
                c => html.push(c),
            }
            html
        })
}

/// Escapes Markdown, and the mentions of everybody.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        // A URL becomes a link without any markup.
        let is_url = word.starts_with("https://") || word.starts_with("http://");
        if is_url && !word.contains(['\\', '`', '*', '|', '[', ']', '<', '>', '@', '(', ')']) {
            escaped.push_str(word);
            continue;
        }
        for c in word.chars() {
            match c {
                '\\' | '`' | '*' | '_' | '~' | '|' | '[' | ']' | '<' | '>' | '#' => {
                    escaped.push('\\');
                    escaped.push(c);
                }
                '@' => escaped.push_str("@\u{200b}"),
                c => escaped.push(c),
            }
        }
    }
    escaped
}

fn mrkdwn(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Text that cannot end a fenced block.
fn fence(text: &str) -> String {
    text.replace("```", "`\u{200b}``")
}

/// A URL without what would end a link.
fn bare(url: &str) -> String {
    url.chars()
        .filter(|c| !c.is_whitespace() && !"<>|()\"".contains(*c))
        .collect()
}

/// The first characters of `text`, with an ellipsis if that is not all. `measure` is how much a
/// text counts.
fn shortened(text: &str, keep: usize) -> String {
    if text.chars().count() <= keep {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(keep.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// At most `limit` characters of plain text.
pub fn chars(text: &str, limit: usize) -> String {
    shortened(text, limit)
}

/// At most `limit` bytes of plain text.
pub fn bytes(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The characters of `text`, as most services count them.
pub fn in_chars(text: &str) -> usize {
    text.chars().count()
}

/// The message as text, within `limit` as `measure` counts it. `titled` puts the title on top. What is
/// too long loses its output, then its description, then the end of its text; the title and the
/// link stay.
pub fn lay_out(
    notice: &Notice,
    markup: Markup,
    titled: bool,
    (limit, measure): (usize, fn(&str) -> usize),
) -> String {
    let (mut output, mut description) = (usize::MAX, usize::MAX);
    let mut text = usize::MAX;
    loop {
        let laid = with(notice, markup, titled, (text, description, output));
        if measure(&laid) <= limit {
            return laid;
        }
        let halved = |keep: usize, all: usize| {
            let keep = keep.min(all) / 2;
            if keep < 40 { 0 } else { keep }
        };
        let long = |text: Option<&String>| text.map_or(0, |text| in_chars(text));
        if output > 0 && notice.output.is_some() {
            output = halved(output, long(notice.output.as_ref()));
        } else if description > 0 && notice.description.is_some() {
            description = halved(description, long(notice.description.as_ref()));
        } else if text > 0 {
            text = halved(text, in_chars(&notice.text));
        } else {
            // Even the title is too long for it.
            return shortened(&notice.title, limit / 8);
        }
    }
}

fn with(
    notice: &Notice,
    markup: Markup,
    titled: bool,
    (text, description, output): (usize, usize, usize),
) -> String {
    let mut blocks: Vec<String> = Vec::new();
    let mut head: Vec<String> = Vec::new();
    if titled {
        head.push((markup.strong)(&notice.title));
    }
    if text > 0 {
        let text = shortened(&notice.text, text);
        head.extend(text.lines().map(markup.text));
    }
    blocks.push(head.join(markup.newline));
    if text > 0 && !notice.facts.is_empty() {
        let line = |Fact { label, value }: &Fact| (markup.text)(&format!("{label}: {value}"));
        let lines: Vec<String> = notice.facts.iter().map(line).collect();
        blocks.push(lines.join(markup.newline));
    }
    if let Some(all) = notice.description.as_ref().filter(|_| description > 0) {
        let short = shortened(all.trim(), description);
        let lines: Vec<String> = short.lines().map(markup.text).collect();
        blocks.push(lines.join(markup.newline));
    }
    if let Some(all) = notice.output.as_ref().filter(|_| output > 0) {
        // The last lines tell most.
        let skipped = in_chars(all).saturating_sub(output);
        let tail: String = all.chars().skip(skipped).collect();
        let tail = if skipped > 0 {
            format!("…{tail}")
        } else {
            tail
        };
        blocks.push((markup.block)(&tail));
    }
    if let Some(link) = &notice.link {
        blocks.push((markup.link)(notice.link_label, link));
    }
    blocks.join(&markup.newline.repeat(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Notice {
        Notice {
            title: "DOWN: <b> & `x` *y* @everyone".into(),
            text: "It broke.\nBadly & <soon>.".into(),
            facts: vec![Fact {
                label: "Tags",
                value: "a, b".into(),
            }],
            description: Some("See https://wiki.example.org/a_b_c".into()),
            output: Some("line\n```\nrm -rf <all>".repeat(50)),
            link: Some("https://thrum.example.org/a/x?y=1&z=(2)".into()),
            link_label: "Open",
            ..Notice::default()
        }
    }

    #[test]
    fn markup_cannot_be_injected() {
        let all = (usize::MAX, in_chars as fn(&str) -> usize);
        let text = lay_out(&notice(), HTML, true, all);
        assert!(text.starts_with("<b>DOWN: &lt;b&gt; &amp; "), "{text}");
        assert!(text.contains("rm -rf &lt;all&gt;"), "{text}");
        let text = lay_out(&notice(), MARKDOWN, true, all);
        assert!(
            text.contains("\\*y\\*") && text.contains("@\u{200b}everyone"),
            "{text}"
        );
        assert!(text.contains("https://wiki.example.org/a_b_c"), "{text}");
        assert_eq!(text.matches("```").count(), 2, "{text}");
        let text = lay_out(&notice(), MRKDWN, true, all);
        assert!(text.contains("&lt;soon&gt;"), "{text}");
        assert!(
            text.ends_with("<https://thrum.example.org/a/x?y=1&z=2|Open>"),
            "{text}"
        );
    }

    #[test]
    fn a_long_message_keeps_its_title_and_its_link() {
        for limit in [200, 300, 400, 600, 1_000] {
            for markup in [PLAIN, MARKDOWN, MRKDWN, HTML, HTML_LINES] {
                let text = lay_out(&notice(), markup, true, (limit, in_chars));
                assert!(in_chars(&text) <= limit, "{limit}: {text}");
                assert!(
                    text.contains("DOWN") && text.contains("Open"),
                    "{limit}: {text}"
                );
            }
        }
        let text = lay_out(&notice(), PLAIN, true, (16, in_chars));
        assert!(in_chars(&text) <= 16, "{text}");
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(chars("größe", 4), "grö…");
        assert_eq!(chars("größe", 5), "größe");
        assert_eq!(bytes("ääää", 6), "ä…");
        assert_eq!(bytes("ääää", 8), "ääää");
    }
}
