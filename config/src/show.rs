//! Writes a configuration as TOML.

use crate::error::ConfigError;
use crate::model::Config;

impl Config {
    /// The whole configuration, defaults included, as TOML that gives the same configuration again. Passwords are shown as
    /// the references they are. The order is always the same.
    ///
    /// # Errors
    /// When the TOML writer refuses, which no checked configuration makes it do.
    pub fn show(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|source| ConfigError::Show { source })
    }
}
