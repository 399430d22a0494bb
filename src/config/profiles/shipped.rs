//! The profiles that are shipped, as text.
//!
//! Owns: which there are.
//! Must not know: what any of them says.

/// Name and text of the profiles that are shipped.
pub(crate) const SHIPPED: &[(&str, &str)] = &[
    ("moorgate", include_str!("moorgate.json")),
    ("apify", include_str!("apify.json")),
    ("brightdata", include_str!("brightdata.json")),
    ("dataimpulse", include_str!("dataimpulse.json")),
    ("decodo", include_str!("decodo.json")),
    ("evomi", include_str!("evomi.json")),
    ("geonode", include_str!("geonode.json")),
    ("illusory", include_str!("illusory.json")),
    ("ipidea", include_str!("ipidea.json")),
    ("iproyal", include_str!("iproyal.json")),
    ("lunaproxy", include_str!("lunaproxy.json")),
    ("massive", include_str!("massive.json")),
    ("netnut", include_str!("netnut.json")),
    ("nodemaven", include_str!("nodemaven.json")),
    ("nstproxy", include_str!("nstproxy.json")),
    ("okeyproxy", include_str!("okeyproxy.json")),
    ("oxylabs", include_str!("oxylabs.json")),
    ("packetstream", include_str!("packetstream.json")),
    ("proxyempire", include_str!("proxyempire.json")),
    ("rayobyte", include_str!("rayobyte.json")),
    ("scrapeops", include_str!("scrapeops.json")),
    ("scraperapi", include_str!("scraperapi.json")),
    ("soax", include_str!("soax.json")),
    ("thordata", include_str!("thordata.json")),
    ("webshare", include_str!("webshare.json")),
];

/// The names of the profiles that are shipped.
pub(crate) fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// Name, title and text of the profiles that are shipped.
pub(crate) fn shipped_texts() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    SHIPPED.iter().map(|(name, text)| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        (*name, json["title"].as_str().unwrap_or_default().to_owned(), *text)
    })
}
