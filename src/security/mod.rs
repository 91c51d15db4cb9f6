//! Who may ask, and what must nobody read? API keys, TLS material, pseudonyms.
