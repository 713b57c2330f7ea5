//! Hadoop's client settings, as far as `hdfs-native` keeps them to itself: where the NameNodes are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

const DEFAULT_RPC_PORT: &str = "8020";
const DEFAULT_HTTP_PORT: &str = "9870";

/// The properties of `core-site.xml` and `hdfs-site.xml`; the second wins. Empty where there are none.
#[derive(Debug, Default)]
pub struct Conf(HashMap<String, String>);

/// Why a settings file could not be used. Prints which.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("parse {}", .0.display())]
    Parse(PathBuf, #[source] roxmltree::Error),
}

impl Conf {
    /// From `HADOOP_CONF_DIR` or `HADOOP_HOME/etc/hadoop`, as `hdfs-native` does.
    pub fn load() -> Result<Self, ConfError> {
        let home = || std::env::var_os("HADOOP_HOME").map(|home| Path::new(&home).join("etc/hadoop"));
        match std::env::var_os("HADOOP_CONF_DIR").map(PathBuf::from).or_else(home) {
            Some(dir) => Self::load_from(&dir),
            None => Ok(Self::default()),
        }
    }

    fn load_from(dir: &Path) -> Result<Self, ConfError> {
        let mut conf = Self::default();
        for file in ["core-site.xml", "hdfs-site.xml"].map(|name| dir.join(name)).into_iter().filter(|f| f.exists()) {
            let text = std::fs::read_to_string(&file).map_err(|e| ConfError::Read(file.clone(), e))?;
            conf.add(&text).map_err(|e| ConfError::Parse(file, e))?;
        }
        Ok(conf)
    }

    fn add(&mut self, xml: &str) -> Result<(), roxmltree::Error> {
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(xml, options)?;
        let properties = document.descendants().filter(|node| node.has_tag_name("property"));
        self.0.extend(properties.filter_map(|property| {
            let text = |tag: &str| property.children().find(|node| node.has_tag_name(tag))?.text();
            Some((text("name")?.trim().to_owned(), text("value")?.trim().to_owned()))
        }));
        Ok(())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The NameNodes of a nameservice; `None` if `name` is no nameservice but a host.
    fn namenodes(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.get(&format!("dfs.ha.namenodes.{name}"))?.split(',').map(str::trim).collect())
    }

    /// How many NameNodes may answer for `authority`.
    pub fn namenodes_count(&self, authority: &str) -> usize {
        self.namenodes(authority).map_or(1, |ids| ids.len())
    }

    /// What to connect to: a nameservice as it is, a host with its port.
    pub fn rpc_authority(&self, authority: &str) -> String {
        match self.namenodes(authority) {
            None if split_port(authority).1.is_none() => format!("{authority}:{DEFAULT_RPC_PORT}"),
            _ => authority.to_owned(),
        }
    }

    /// `host:port` of the HTTP servers of the NameNodes of `authority`: as set, or the host with the default port.
    pub fn http_addresses(&self, authority: &str) -> Vec<String> {
        let host = split_port(authority).0;
        let set = |suffix: String| self.get(&format!("dfs.namenode.http-address{suffix}")).map(str::to_owned);
        if let Some(ids) = self.namenodes(authority) {
            return ids.iter().filter_map(|id| set(format!(".{authority}.{id}"))).collect();
        }
        let address = set(String::new()).unwrap_or_else(|| format!("{host}:{DEFAULT_HTTP_PORT}"));
        // What a NameNode binds to says nothing about where clients find it.
        vec![match split_port(&address) {
            ("0.0.0.0", Some(port)) => format!("{host}:{port}"),
            _ => address,
        }]
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(properties: &[(&str, &str)]) -> Conf {
        let lines: String = properties
            .iter()
            .map(|(name, value)| format!("<property><name>{name}</name>\n<value> {value} </value></property>"))
            .collect();
        let mut conf = Conf::default();
        conf.add(&format!("<?xml version=\"1.0\"?>\n<configuration>{lines}</configuration>")).expect("well-formed");
        conf
    }

    #[test]
    fn without_settings_the_default_ports_are_taken() {
        let conf = Conf::default();
        assert_eq!(conf.rpc_authority("nn"), "nn:8020");
        assert_eq!(conf.rpc_authority("nn:9000"), "nn:9000");
        assert_eq!(conf.http_addresses("nn:9000"), ["nn:9870"]);
    }

    #[test]
    fn a_set_http_address_is_taken_and_a_wildcard_is_the_host() {
        assert_eq!(conf(&[("dfs.namenode.http-address", "web:50070")]).http_addresses("nn:9000"), ["web:50070"]);
        assert_eq!(conf(&[("dfs.namenode.http-address", "0.0.0.0:50070")]).http_addresses("nn"), ["nn:50070"]);
    }

    #[test]
    fn a_nameservice_has_the_addresses_of_all_its_namenodes() {
        let conf = conf(&[
            ("dfs.ha.namenodes.prod", "a, b"),
            ("dfs.namenode.http-address.prod.a", "one:9870"),
            ("dfs.namenode.http-address.prod.b", "two:9870"),
        ]);
        assert_eq!(conf.rpc_authority("prod"), "prod");
        assert_eq!(conf.namenodes_count("prod"), 2);
        assert_eq!(conf.http_addresses("prod"), ["one:9870", "two:9870"]);
    }

    #[test]
    fn broken_settings_are_an_error_and_not_empty() {
        assert!(Conf::default().add("<configuration><property>").is_err());
    }
}
