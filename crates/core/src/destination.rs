//! Which URLs and addresses may be called.
//!
//! A URL is checked when it is registered ([`Destinations::check_url`]); an address is checked at every connect
//! ([`Destinations::check_address`]), because what a host name resolves to can change between the two.

use crate::problem::Problem;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// The longest URL that is accepted, in bytes.
pub const LONGEST_URL: usize = 2048;

/// The operator's rules for destinations. The default allows `https` to public addresses on ports 443 and 8443.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destinations {
    /// Accept `http://` URLs (`CAPA_WEBHOOKS_ALLOW_HTTP`).
    pub allow_http: bool,
    /// Ranges that are allowed although they are not public (`CAPA_WEBHOOKS_ALLOW_ADDRESSES`).
    pub allow_addresses: Vec<IpNet>,
    /// Allowed ports (`CAPA_WEBHOOKS_ALLOW_PORTS`).
    pub ports: Ports,
}

/// Allowed destination ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ports {
    /// 443 and 8443, and 80 when `http` is allowed.
    #[default]
    Standard,
    /// These.
    Only(Vec<u16>),
    /// Every port.
    Any,
}

impl Destinations {
    /// Checks a URL that a partner wants to register, and gives the text that is stored and called.
    ///
    /// # Errors
    /// Everything that is wrong with it, and the setting that would allow it where there is one.
    pub fn check_url(&self, text: &str) -> Result<String, Vec<Problem>> {
        let problem = |text: &str| Problem::new("url", text);
        if text.len() > LONGEST_URL {
            return Err(vec![problem("The URL is longer than 2048 bytes; register a shorter one.")]);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(vec![problem("The URL holds white space or control characters; percent-encode them.")]);
        }
        let url = Url::parse(text).map_err(|error| {
            vec![Problem::new(
                "url",
                format!("Not a complete URL ({error}); give one such as https://example.com/webhooks."),
            )]
        })?;
        let mut problems = Vec::new();
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => problems.push(problem(
                "Plain http is not accepted; use https. (The operator can allow http with CAPA_WEBHOOKS_ALLOW_HTTP.)",
            )),
            _ => return Err(vec![problem("The scheme must be https.")]),
        }
        if !url.username().is_empty() || url.password().is_some() {
            problems.push(problem("Credentials in the URL are not accepted; verify the signature instead."));
        }
        if url.fragment().is_some() {
            problems.push(problem("A fragment (#…) is never sent to a server; remove it."));
        }
        let port = url.port_or_known_default().unwrap_or(0);
        if !self.port_allowed(port) {
            problems.push(Problem::new(
                "url",
                format!("Port {port} is not allowed. (The operator can allow it with CAPA_WEBHOOKS_ALLOW_PORTS.)"),
            ));
        }
        problems.extend(match url.host() {
            None => Some(problem("The URL has no host.")),
            Some(Host::Ipv4(address)) => self.literal_problem(address.into()),
            Some(Host::Ipv6(address)) => self.literal_problem(address.into()),
            Some(Host::Domain(name)) => self.name_problem(name),
        });
        if problems.is_empty() { Ok(url.into()) } else { Err(problems) }
    }

    /// Checks an address right before it is connected to.
    ///
    /// # Errors
    /// The address is not public, and no setting allows it.
    pub fn check_address(&self, address: IpAddr) -> Result<(), NotPublic> {
        let address = address.to_canonical();
        if self.allows(address) || is_public(address) { Ok(()) } else { Err(NotPublic(address)) }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow_addresses.iter().any(|range| range.contains(&address))
    }

    fn port_allowed(&self, port: u16) -> bool {
        match &self.ports {
            Ports::Standard => matches!(port, 443 | 8443) || (port == 80 && self.allow_http),
            Ports::Only(ports) => ports.contains(&port),
            Ports::Any => true,
        }
    }

    fn literal_problem(&self, address: IpAddr) -> Option<Problem> {
        let address = address.to_canonical();
        let what = if self.allows(address) {
            return None;
        } else if is_public(address) {
            "is an IP address; use a host name"
        } else {
            "is not a public address; use a host name that is reachable from the internet"
        };
        Some(Problem::new(
            "url",
            format!("The host {what}. (The operator can allow the address with CAPA_WEBHOOKS_ALLOW_ADDRESSES.)"),
        ))
    }

    /// Names that can only mean this machine or a private network are refused until some private range is allowed.
    fn name_problem(&self, name: &str) -> Option<Problem> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let local = !name.contains('.')
            || ["localhost", "local", "internal", "intranet", "home.arpa", "onion"]
                .iter()
                .any(|zone| name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.')));
        (local && self.allow_addresses.is_empty()).then(|| {
            Problem::new(
                "url",
                "The host name is not public; use one that is reachable from the internet. (The operator can allow \
                 private addresses with CAPA_WEBHOOKS_ALLOW_ADDRESSES.)",
            )
        })
    }
}

/// An address that may not be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address {0} is not public")]
pub struct NotPublic(pub IpAddr);

/// IPv4 ranges that are not public: IANA's special-purpose registry, and multicast.
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Ranges within 2000::/3, the only public part of IPv6, that are not public: protocol assignments (Teredo included),
/// documentation, 6to4.
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !NOT_PUBLIC_V4.iter().any(|(base, prefix)| Ipv4Net::new_assert(*base, *prefix).contains(&v4)),
        IpAddr::V6(v6) => match v6.segments() {
            // NAT64: the address stands for the IPv4 address in its last 32 bits.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            }
            [first, ..] => {
                first & 0xe000 == 0x2000
                    && !NOT_PUBLIC_V6.iter().any(|(base, prefix)| Ipv6Net::new_assert(*base, *prefix).contains(&v6))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loose() -> Destinations {
        Destinations { allow_http: true, allow_addresses: vec!["127.0.0.0/8".parse().unwrap()], ports: Ports::Any }
    }

    #[test]
    fn public_addresses() {
        for (text, public) in [
            ("8.8.8.8", true),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.31.255.255", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("0.0.0.0", false),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("fe80::1", false),
            ("fc00::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2001::1", false),
            ("2002:7f00:1::", false),
            ("2606:4700:4700::1111", true),
        ] {
            let checked = Destinations::default().check_address(text.parse().unwrap());
            assert_eq!(checked.is_ok(), public, "{text}");
        }
        assert!(loose().check_address("127.9.9.9".parse().unwrap()).is_ok());
        assert!(loose().check_address("::ffff:127.0.0.1".parse().unwrap()).is_ok());
        assert!(loose().check_address("10.0.0.1".parse().unwrap()).is_err());
    }

    #[test]
    fn urls_and_the_setting_that_would_allow_them() {
        let strict = Destinations::default();
        for good in ["https://partner.example/hook?a=b", "https://partner.example:8443/", "https://bücher.example/"] {
            assert!(strict.check_url(good).is_ok(), "{good}");
        }
        for (bad, word) in [
            ("http://partner.example/", "CAPA_WEBHOOKS_ALLOW_HTTP"),
            ("ftp://partner.example/", "scheme"),
            ("partner.example/hook", "complete URL"),
            ("", "complete URL"),
            ("https://", "complete URL"),
            ("https://user:pw@partner.example/", "Credentials"),
            ("https://partner.example/#x", "fragment"),
            ("https://partner.example:22/", "CAPA_WEBHOOKS_ALLOW_PORTS"),
            ("https://8.8.8.8/", "IP address"),
            ("https://127.0.0.1/", "CAPA_WEBHOOKS_ALLOW_ADDRESSES"),
            ("https://0x7f.1/", "not a public address"),
            ("https://2130706433/", "not a public address"),
            ("https://[::1]/", "not a public address"),
            ("https://[::ffff:10.0.0.1]/", "not a public address"),
            ("https://localhost/", "host name is not public"),
            ("https://metadata.google.internal/", "host name is not public"),
            ("https://intranet/", "host name is not public"),
            ("https://printer.local./", "host name is not public"),
            ("https://partner.example/a b", "white space"),
            ("https://partner.example/a\nb", "white space"),
        ] {
            let problems = strict.check_url(bad).unwrap_err();
            assert!(problems.iter().any(|p| p.problem.contains(word) && p.field == "url"), "{bad}: {problems:?}");
        }
        let long = format!("https://partner.example/{}", "a".repeat(LONGEST_URL));
        assert!(strict.check_url(&long).is_err());
        let several = strict.check_url("http://user@127.0.0.1:22/").unwrap_err();
        assert_eq!(several.len(), 4);
        for good in ["http://127.0.0.1:9999/hook", "http://localhost:1/", "https://partner.example:22/"] {
            assert!(loose().check_url(good).is_ok(), "{good}");
        }
    }
}
