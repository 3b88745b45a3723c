//! The pages' shell: one family, hand-written, light and dark, no script of its own, no other host.
//!
//! The landing page offers what that of the exporter toolkit offers, name, description, version, links and forms, with
//! one exception: links to profiles are left out, as these programs serve none.

/// The style of every page; pages may rely on its custom properties (`--line`, `--accent`, `--card`, `--faint`).
const STYLE: &str = include_str!("page.css");

/// An arch, the mark of the family.
const MARK: &str = "<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path fill=\"none\" stroke=\"currentColor\" \
                    stroke-width=\"2.2\" stroke-linecap=\"round\" d=\"M3 21V11a9 9 0 0 1 18 0v10M8 21V11a4 4 0 0 1 8 \
                    0v10M12 21V11\"/></svg>";

/// The same for the tab of the browser, which would ask for a file otherwise.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E%3Cpath fill='none' \
                    stroke='%23d2602f' stroke-width='2.4' stroke-linecap='round' d='M3 21V11a9 9 0 0 1 18 0v10M8 \
                    21V11a4 4 0 0 1 8 0v10M12 21V11'/%3E%3C/svg%3E";

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
    framed(title, navigation, body, "")
}

fn framed(title: &str, navigation: &[(&str, &str)], body: &str, footer: &str) -> String {
    let links: String =
        navigation.iter().map(|(text, to)| format!("<a href=\"{}\">{}</a>", escape(to), escape(text))).collect();
    let nav = if links.is_empty() { String::new() } else { format!("<nav>{links}</nav>") };
    let footer = if footer.is_empty() { String::new() } else { format!("<footer>{}</footer>", escape(footer)) };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{0}</title><link rel=\"icon\" href=\"{ICON}\">\
         <style>{STYLE}</style></head><body><header><b>{MARK}{0}</b>{nav}</header><main>{body}</main>{footer}</body>\
         </html>",
        escape(title)
    )
}

/// One field of a [`Form`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// What stands above it.
    pub label: &'a str,
    /// The parameter's name.
    pub name: &'a str,
    /// The kind of `<input>`; empty is `text`.
    pub kind: &'a str,
    /// What stands in it while it is empty.
    pub placeholder: &'a str,
    /// What stands in it at first.
    pub value: &'a str,
}

/// Parameters asked for, which become the query of a GET.
#[derive(Clone, Debug, Default)]
pub struct Form<'a> {
    /// Where the answers go: a path below the prefix.
    pub action: &'a str,
    /// What the button says; empty is `Submit`.
    pub submit: &'a str,
    /// The fields, in order.
    pub inputs: Vec<Input<'a>>,
}

/// The page at `/` of a program that has little to show.
#[derive(Clone, Debug, Default)]
pub struct Landing<'a> {
    /// The program.
    pub name: &'a str,
    /// What it does, in one sentence.
    pub description: &'a str,
    /// Its version.
    pub version: &'a str,
    /// `--web.route-prefix`, put before every address that begins with a slash.
    pub prefix: &'a str,
    /// Text, address and description of what can be gone to.
    pub links: Vec<(&'a str, &'a str, &'a str)>,
    /// What can be asked.
    pub forms: Vec<Form<'a>>,
    /// HTML of the program's own, below the rest.
    pub extra_html: &'a str,
}

impl Landing<'_> {
    /// The page.
    pub fn render(&self) -> String {
        let links: String = self.links.iter().map(|link| self.link(*link)).collect();
        let forms: String = self.forms.iter().map(|form| self.form(form)).collect();
        let list = if links.is_empty() { links } else { format!("<ul class=\"cards\">{links}</ul>") };
        let (name, description) = (escape(self.name), escape(self.description));
        let body = format!("<h1>{name}</h1><p class=\"lead\">{description}</p>{list}{forms}{}", self.extra_html);
        let footer = if self.version.is_empty() { String::new() } else { format!("Version {}", self.version) };
        framed(self.name, &[], &body, &footer)
    }

    fn address(&self, to: &str) -> String {
        let below = if to.starts_with('/') { self.prefix.trim_end_matches('/') } else { "" };
        escape(&format!("{below}{to}"))
    }

    fn link(&self, (text, to, description): (&str, &str, &str)) -> String {
        let more = if description.is_empty() { String::new() } else { format!("<span>{}</span>", escape(description)) };
        format!("<li><a href=\"{}\"><strong>{}</strong>{more}</a></li>", self.address(to), escape(text))
    }

    fn form(&self, form: &Form<'_>) -> String {
        let or = |text: &str, default: &str| escape(if text.is_empty() { default } else { text });
        let input = |input: &Input<'_>| {
            format!(
                "<label>{}<input type=\"{}\" name=\"{}\" placeholder=\"{}\" value=\"{}\"></label>",
                escape(input.label),
                or(input.kind, "text"),
                escape(input.name),
                escape(input.placeholder),
                escape(input.value)
            )
        };
        let inputs: String = form.inputs.iter().map(input).collect();
        let (action, submit) = (self.address(form.action), or(form.submit, "Submit"));
        format!("<form class=\"ask\" action=\"{action}\" method=\"get\">{inputs}<button>{submit}</button></form>")
    }
}

/// The page at `/` of a program that has links to show and nothing else.
pub fn landing(name: &str, description: &str, version: &str, links: &[(&str, &str)]) -> String {
    let links = links.iter().map(|(text, to)| (*text, *to, "")).collect();
    Landing { name, description, version, links, ..Landing::default() }.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let bad = "<x a='b' c=\"d\">&";
        let input = Input { label: bad, name: bad, kind: bad, placeholder: bad, value: bad };
        let page = Landing {
            name: bad,
            description: bad,
            version: bad,
            prefix: bad,
            links: vec![(bad, bad, bad)],
            forms: vec![Form { action: bad, submit: bad, inputs: vec![input] }],
            extra_html: "",
        };
        for page in [page.render(), landing(bad, bad, bad, &[(bad, bad)]), shell(bad, &[(bad, bad)], "")] {
            assert!(!page.contains("<x") && !page.contains("c=\"d\"") && !page.contains("a='b'"), "{page}");
            assert!(page.contains("&lt;x a=&#39;b&#39; c=&quot;d&quot;&gt;&amp;"));
        }
    }

    #[test]
    fn addresses_stand_below_the_prefix() {
        let cases = [("", "/metrics", "/metrics"), ("/", "/metrics", "/metrics"), ("/a", "/metrics", "/a/metrics")];
        for (prefix, to, expected) in cases.into_iter().chain([("/a/", "https://x/", "https://x/")]) {
            let form = Form { action: to, ..Form::default() };
            let page = Landing { prefix, links: vec![("t", to, "")], forms: vec![form], ..Landing::default() }.render();
            assert!(page.contains(&format!("<a href=\"{expected}\">")), "{prefix} {to}");
            assert!(page.contains(&format!("action=\"{expected}\"")), "{prefix} {to}");
        }
    }

    /// A page that loads nothing from elsewhere works without a network and tells nobody.
    #[test]
    fn pages_ask_no_other_host() {
        let page = landing("n", "d", "v", &[]);
        assert!(!page.contains("src=") && !page.contains("@import") && !page.contains("url("));
        assert!(!STYLE.contains('<'), "the style cannot end itself");
    }
}
