"""The gap and the band edges against temperature."""
