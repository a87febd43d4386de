//! Where a post goes: a URL that was checked and taken apart once.

use super::failure;
use capa_webhooks_core::destination::Destinations;
use capa_webhooks_core::outcome::Failure;
use http::{HeaderValue, Uri};
use std::fmt;
use std::sync::Arc;

/// A partner's URL, ready to be posted to as often as needed. Cheap to use, so keep it as long as the URL stays.
#[derive(Clone)]
pub struct Target {
    url: String,
    way: Result<Way, Failure>,
}

/// What a request needs to know about the URL.
#[derive(Clone)]
pub(super) struct Way {
    /// Scheme, host, port, path and query.
    pub(super) uri: Uri,
    /// Path and query alone, as a request names them.
    pub(super) path: Uri,
    /// Scheme, host and port: whoever shares them can share connections.
    pub(super) origin: Arc<str>,
    /// The `host` header: the host, and the port unless it is the scheme's own.
    pub(super) host: HeaderValue,
}

impl Target {
    /// The rules are applied again, although the URL was checked when it was registered: they may be tighter now.
    pub(super) fn new(url: &str, destinations: &Destinations) -> Self {
        let checked = destinations.check_url(url).map_err(|problems| failure::refused_url(&problems));
        let way = checked.and_then(|url| Way::of(url).ok_or_else(failure::unusable_url));
        Self { url: url.to_owned(), way }
    }

    /// The URL, as it was given. It may hold a token of the partner's: never log it.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn way(&self) -> Result<&Way, Failure> {
        self.way.as_ref().map_err(Clone::clone)
    }
}

impl Way {
    /// A checked URL has no credentials and no port that its scheme implies, so its authority is the `host` header.
    fn of(url: String) -> Option<Self> {
        let uri = Uri::try_from(url).ok()?;
        let authority = uri.authority()?.as_str();
        let host = HeaderValue::from_str(authority).ok()?;
        let origin = format!("{}://{authority}", uri.scheme_str()?).into();
        let path = uri.path_and_query()?.clone().into();
        Some(Self { uri, path, origin, host })
    }
}

impl fmt::Debug for Target {
    /// Shows whether it may be called, never the URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("refused", &self.way.as_ref().err()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capa_webhooks_core::outcome::FailureKind;

    fn way(url: &str) -> Result<(String, String), Failure> {
        let target = Target::new(url, &Destinations::default());
        target.way().map(|way| (way.uri.to_string(), way.host.to_str().unwrap().to_owned()))
    }

    #[test]
    fn takes_urls_apart() {
        for (url, uri, host) in [
            ("https://partner.example", "https://partner.example/", "partner.example"),
            ("https://Partner.example:443/Hook?a=b%20c&d", "https://partner.example/Hook?a=b%20c&d", "partner.example"),
            ("https://partner.example:8443/", "https://partner.example:8443/", "partner.example:8443"),
            ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC", "xn--bcher-kva.example"),
            ("https://partner.example./", "https://partner.example./", "partner.example."),
        ] {
            assert_eq!(way(url), Ok((uri.to_owned(), host.to_owned())), "{url}");
        }
    }

    #[test]
    fn every_character_of_an_accepted_url_can_be_sent() {
        for c in ('\u{21}'..='\u{7e}').filter(|c| *c != '#').chain(['ü', '漢', '🦀']) {
            assert!(way(&format!("https://partner.example/a{c}b?c{c}d")).is_ok(), "{c}");
        }
    }

    #[test]
    fn refuses_in_words_that_do_not_hold_the_url() {
        for (url, words) in [
            ("http://partner.example/s3cret", "CAPA_WEBHOOKS_ALLOW_HTTP"),
            ("https://partner.example:22/s3cret?s3cret", "CAPA_WEBHOOKS_ALLOW_PORTS"),
            ("https://localhost/s3cret", "not public"),
            ("https://10.0.0.1/s3cret", "not a public address"),
            ("s3cret", "Not a complete URL"),
        ] {
            let failure = way(url).unwrap_err();
            assert_eq!(failure.kind, FailureKind::AddressRefused, "{url}");
            assert!(failure.message.contains(words) && !failure.message.contains("s3cret"), "{failure:?}");
            assert!(!format!("{:?}", Target::new(url, &Destinations::default())).contains("s3cret"));
        }
    }
}
