"""Bicycles rented in each hour of a month, from calendar and weather."""
