"""The model: one pure wire format per provider family, one HTTP client, and a simulator of a provider."""
