"""How runs become a report: parameters, runs, records, checks, statistics, claims, tables, figures, sweeps.

It imports bnat_utils, never the other way round; the notebooks import it.
"""
