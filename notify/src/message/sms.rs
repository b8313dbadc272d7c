//! Text messages: one segment, in the GSM alphabet where it suffices, else in UCS-2.
//!
//! Sizes and alphabets: 3GPP TS 23.038. SNS takes UCS-2 as soon as one character is not in the GSM alphabet
//! (<https://docs.aws.amazon.com/sns/latest/dg/sms_publish-to-phone.html>).

/// The septets of a segment in the GSM alphabet.
const SEPTETS: usize = 160;
/// The UTF-16 units of a segment in UCS-2.
const UNITS: usize = 70;
/// The shortest start of a name that is sent rather than none.
const SHORTEST: usize = 8;

/// The characters of the GSM alphabet that take one septet, besides ASCII's letters, digits and space.
const BASIC: &str = "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ!\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
/// Those that take two.
const EXTENDED: &str = "^{}\\[~]|€";

/// A message about `name`: `text` is the whole message for a name, and `note` follows it if there is room. If it is too
/// long for one segment, the slug stands for a name that needs UCS-2, and a long name is cut.
pub fn about(name: &str, slug: &str, note: &str, text: impl Fn(&str) -> String) -> String {
    let name = clean(name);
    let whole = text(&name);
    let with_note = format!("{whole}{note}");
    if fits(&with_note) {
        return with_note;
    }
    if fits(&whole) {
        return whole;
    }
    if septets(&name).is_none() && !slug.is_empty() {
        let with_slug = text(slug);
        if fits(&with_slug) {
            return with_slug;
        }
    }
    let ends = name.char_indices().map(|(at, _)| at).rev();
    for end in ends.filter(|end| *end >= SHORTEST) {
        let shorter = text(&format!("{}...", name[..end].trim_end()));
        if fits(&shorter) {
            return shorter;
        }
    }
    cut(&whole)
}

/// A message, cut to one segment.
pub fn cut(text: &str) -> String {
    // The text of a group is long; one character more than fits shows that there is more.
    let text: String = clean(text).chars().take(SEPTETS + 1).collect();
    if fits(&text) {
        return text;
    }
    let ends = text.char_indices().map(|(at, _)| at).rev();
    let mut shorter = ends.map(|end| format!("{}...", text[..end].trim_end()));
    shorter.find(|text| fits(text)).unwrap_or_default()
}

fn fits(text: &str) -> bool {
    match septets(text) {
        Some(septets) => septets <= SEPTETS,
        None => text.encode_utf16().count() <= UNITS,
    }
}

/// The septets of a text; `None` if it needs UCS-2.
fn septets(text: &str) -> Option<usize> {
    text.chars()
        .map(|c| match c {
            ' ' | '0'..='9' | 'A'..='Z' | 'a'..='z' => Some(1),
            c if BASIC.contains(c) => Some(1),
            c if EXTENDED.contains(c) => Some(2),
            _ => None,
        })
        .sum()
}

/// On one line, and with the GSM alphabet's form of what programs write otherwise.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => ' ',
            '`' | '‘' | '’' => '\'',
            '“' | '”' | '„' => '"',
            '–' | '—' | '→' => '-',
            c => c,
        })
        .collect::<String>()
        .replace('…', "...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_arrive_in_gsm_or_ucs2_or_as_their_slug() {
        let text =
            |name: &str| format!("Thrum: {name} is DOWN, missed its deadline at 04:40:09 UTC");
        let check = |name: &str, slug: &str, expected: &str| {
            let sent = about(name, slug, "", text);
            assert!(sent.contains(expected), "{name}: {sent}");
            assert!(sent.contains("is DOWN") && !sent.contains('?'), "{sent}");
            assert!(fits(&sent), "{sent}");
        };
        check("web-01", "web-01", "web-01");
        check("Größe", "grosse", "Größe");
        check("日本語バックアップ", "", "日本語バックアップ");
        check("db {prod} [eu] ~x|y", "db", "db {prod} [eu] ~x|y");
        check("Ночной бэкап базы данных клиентов", "nightly", "nightly");
        check("Ночной бэкап базы данных клиентов", "", "Ночной");
        check(&"x".repeat(300), "x", "xxx...");
        check(&"{".repeat(300), "x", "{{{...");
        check("it’s “quoted”\r\nBcc: x", "its", "it's \"quoted\"  Bcc: x");
        assert!(
            septets(&about("Größe", "g", "", text)).is_some(),
            "GSM suffices"
        );
        assert!(septets(&about("日本", "", "", text)).is_none());
    }

    #[test]
    fn a_note_is_sent_if_there_is_room() {
        let text = |name: &str| format!("Thrum: {name} is DOWN");
        let note = " (Thrum moved to another region)";
        let sent = about("web", "web", note, text);
        assert_eq!(sent, "Thrum: web is DOWN (Thrum moved to another region)");
        let long = "x".repeat(120);
        assert_eq!(about(&long, "x", note, text), text(&long));
    }

    #[test]
    fn other_texts_are_cut_to_a_segment() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"x".repeat(161)).len(), 160);
        assert_eq!(
            cut(&"€".repeat(99)).chars().count(),
            81,
            "two septets each, and three dots"
        );
        let emoji = cut(&"😀".repeat(99));
        assert!(emoji.encode_utf16().count() <= 70 && emoji.starts_with("😀"));
    }
}
