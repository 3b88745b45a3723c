//! The pages' shell: one family, hand-written, light and dark, no script of its own, no other host.

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--accent:#b3471d}\
@media(prefers-color-scheme:dark){:root{--accent:#ff9a66}}\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:0 1rem 3rem}\
header{display:flex;flex-wrap:wrap;gap:.4rem 1.4rem;align-items:baseline;border-bottom:1px solid var(--line);padding:.9rem 0;margin-bottom:1.2rem}\
header b{font-size:1.15rem}a{color:var(--accent)}:focus-visible{outline:2px solid var(--accent);outline-offset:2px}\
table{border-collapse:collapse}td,th{text-align:left;padding:.25rem .7rem;border-bottom:1px solid var(--line);overflow-wrap:anywhere}\
h1{font-size:1.3rem}";

/// Text made safe inside HTML and its attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A whole page; `body` is HTML, the rest is text.
pub fn shell(title: &str, navigation: &[(&str, &str)], body: &str) -> String {
    let links: String =
        navigation.iter().map(|(text, to)| format!("<a href=\"{}\">{}</a>", escape(to), escape(text))).collect();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{0}</title><style>{STYLE}</style></head><body><header>\
         <b>{0}</b><nav>{links}</nav></header><main>{body}</main></body></html>",
        escape(title)
    )
}

/// The page at `/` of a program that has little to show.
pub fn landing(name: &str, description: &str, version: &str, links: &[(&str, &str)]) -> String {
    let items: String =
        links.iter().map(|(text, to)| format!("<li><a href=\"{}\">{}</a></li>", escape(to), escape(text))).collect();
    let body = format!("<h1>{}</h1><p>Version {}</p><ul>{items}</ul>", escape(description), escape(version));
    shell(name, &[], &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let page = landing("<x>", "a & b", "\"1\"", &[("l", "/a\"b")]);
        assert!(
            page.contains("&lt;x&gt;")
                && page.contains("a &amp; b")
                && !page.contains("<x>")
                && !page.contains("/a\"b")
        );
    }
}
