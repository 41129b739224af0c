"""What happens in a store: events that are kept, metrics that are made of them, alerts that somebody hears of."""
