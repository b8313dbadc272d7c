//! Checks markup as services parse it.

/// The text of `html` without its tags, if it has only these tags, all closed in order, and only
/// entities that Telegram knows.
pub fn html(html: &str, tags: &[&str]) -> Result<String, String> {
    let mut open: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('&') {
            let (entity, after) = after.split_once(';').ok_or("an entity has no end")?;
            let is_number = entity
                .strip_prefix('#')
                .is_some_and(|digits| digits.parse::<u32>().is_ok());
            if !is_number && !["lt", "gt", "amp", "quot"].contains(&entity) {
                return Err(format!("unknown entity &{entity};"));
            }
            text.push('.');
            rest = after;
            continue;
        }
        let (tag, after) = rest[1..].split_once('>').ok_or("a tag has no end")?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop().as_deref() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
            continue;
        }
        let name = tag.split(' ').next().unwrap_or_default();
        if !tags.contains(&name) {
            return Err(format!("unsupported tag <{name}>"));
        }
        if name != "br" {
            open.push(name.to_owned());
        }
    }
    text.push_str(rest);
    if open.is_empty() {
        Ok(text)
    } else {
        Err(format!("{open:?} are not closed"))
    }
}

/// Whether every `<` in Slack's mrkdwn begins a link, and no name mentions everybody.
pub fn mrkdwn(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let inside = rest[at + 1..].split('>').next().unwrap_or_default();
        if !inside.starts_with("https://") {
            return Err(format!("<{inside}> is not a link"));
        }
        rest = &rest[at + 1..];
    }
    Ok(())
}
