//! Scheme, host and port: whom the user's token is for.
//!
//! In: URLs of the user's and of redirects. Out: [`Origin`], and where a redirect leads. It upholds that a redirect never
//! leaves TLS, and that it is known of every URL whether it has the origin that the user named.

use std::fmt;

use anyhow::{Context, Result, bail};
use ureq::http::Uri;

/// The server part of a URL, with the path in front of everything, if there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Origin {
    /// `https://host:port`, in lower case.
    server: String,
    /// Empty, or `/path` without a slash at its end.
    prefix: String,
}

/// Scheme, host and port of `url`, and what comes behind.
fn split(url: &str) -> Result<(String, String)> {
    let uri: Uri = url.parse().context("it is no URL")?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        bail!("it has no scheme or no host");
    };
    if scheme != "https" && scheme != "http" {
        bail!("its scheme is neither https nor http");
    }
    if authority.as_str().contains('@') {
        bail!("it has a user in it");
    }
    let server = format!("{scheme}://{authority}").to_ascii_lowercase();
    Ok((server, uri.path_and_query().map_or(String::new(), ToString::to_string)))
}

impl Origin {
    /// Reads the URL of a hub.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (server, path) = split(url)?;
        if path.contains('?') {
            bail!("it has a query in it");
        }
        Ok(Self { server, prefix: path.trim_end_matches('/').to_owned() })
    }

    /// The URL of `path`, which begins with a slash.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.server, self.prefix)
    }

    /// Whether `url` is of this server.
    pub(super) fn is_of(&self, url: &str) -> bool {
        split(url).is_ok_and(|(server, _)| server == self.server)
    }

    /// The whole of it as the name of a folder: a host alone where TLS and the usual port go without saying, else the URL with
    /// everything encoded that folders may not be called on every system.
    pub(super) fn folder(&self) -> String {
        match self.server.strip_prefix("https://") {
            Some(host) if self.prefix.is_empty() && !host.contains([':', '%']) => host.to_owned(),
            _ => encoded(&self.to_string()),
        }
    }

    /// The hub whose models are in the folder called `name`; `None` if that is no hub's.
    pub(super) fn of_folder(name: &str) -> Option<Self> {
        let url = if name.contains('%') { decoded(name)? } else { format!("https://{name}") };
        Self::parse(&url).ok().filter(|origin| origin.folder() == name)
    }

    /// Host and port, for people.
    pub(super) fn host(&self) -> &str {
        host(&self.server)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.server, self.prefix)
    }
}

/// Host and port of `url`; what comes behind may be a secret.
pub(super) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Where a redirect from `url` to `location` leads.
pub(super) fn redirected(url: &str, location: &str) -> Result<String> {
    let (server, _) = split(url)?;
    if location.starts_with('/') && !location.starts_with("//") {
        return Ok(format!("{server}{location}"));
    }
    let (to, rest) =
        split(location).with_context(|| format!("{} redirects to something else than a URL", host(url)))?;
    if server.starts_with("https:") && !to.starts_with("https:") {
        bail!("{} redirects to {} without TLS", host(url), host(&to));
    }
    Ok(format!("{to}{rest}"))
}

/// `text` as a part of a path of a URL.
pub(super) fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The inverse; `None` if `text` is not what [`encoded`] gives.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = Origin::parse("https://Hub.example/").expect("a URL");
        assert_eq!((hub.url("/a"), hub.host()), ("https://hub.example/a".to_owned(), "hub.example"));
        for (url, same) in [
            ("https://hub.example/x?y", true),
            ("https://HUB.example/", true),
            ("http://hub.example/x", false),
            ("https://hub.example:444/x", false),
            ("https://hub.example.evil/x", false),
            ("https://evil@hub.example/x", false),
        ] {
            assert_eq!(hub.is_of(url), same, "{url}");
        }
        assert_eq!(Origin::parse("http://a:1/mirror/").expect("a URL").url("/b"), "http://a:1/mirror/b");
        for wrong in ["", "hub", "ftp://hub", "https://u:p@hub", "https://hub/?a", "/a"] {
            assert!(Origin::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn redirects_stay_with_tls() {
        let from = "https://hub.example/a/b";
        assert_eq!(redirected(from, "/c?d").expect("a path"), "https://hub.example/c?d");
        assert_eq!(redirected(from, "https://cdn.example/x").expect("a URL"), "https://cdn.example/x");
        for wrong in ["http://cdn.example/x", "//cdn.example/x", "file:///etc/passwd", "c/d", ""] {
            assert!(redirected(from, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_hub_has_a_folder_of_its_own() {
        let urls = [
            "https://huggingface.co",
            "http://huggingface.co",
            "https://huggingface.co:444",
            "https://huggingface.co/mirror",
            "https://huggingface.co/Mirror",
            "https://huggingface.co/a/b",
            "http://127.0.0.1:8080",
            "http://[::1]:8080/a%2Fb",
        ];
        let mut folders: Vec<String> = urls.iter().map(|url| Origin::parse(url).expect("a URL").folder()).collect();
        for (url, folder) in urls.iter().zip(&folders) {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
            assert!(folder.chars().all(is_plain), "{folder}");
            assert_eq!(Origin::of_folder(folder).expect("a hub").to_string(), *url);
        }
        assert_eq!(folders[0], "huggingface.co");
        assert_eq!(Origin::parse("https://Huggingface.co/").expect("a URL").folder(), folders[0]);
        folders.sort();
        folders.dedup();
        assert_eq!(folders.len(), urls.len());
        for name in ["127.0.0.1_8080", "a%2", "a%zz", "%", ""] {
            assert!(Origin::of_folder(name).is_none_or(|origin| origin.folder() == name), "{name}");
        }
    }

    #[test]
    fn names_are_encoded_for_urls() {
        assert_eq!(encoded("refs/pr 1?#%é"), "refs%2Fpr%201%3F%23%25%C3%A9");
    }
}
