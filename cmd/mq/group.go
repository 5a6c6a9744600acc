package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

func newGroup(p *program) *cobra.Command {
	return group(&cobra.Command{
		Use:   "group",
		Short: "Look at consumer groups: who reads, what, and how far",
	}, newGroupList(p), newGroupDescribe(p), newGroupLag(p))
}

func newGroupList(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the groups that have members or offsets stored",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				groups, err := a.ListGroups(ctx)
				if err != nil {
					return err
				}
				return p.show(out, groups, func(t *table) {
					t.head("GROUP", "STATE", "MEMBERS")
					for _, g := range groups {
						t.row(printable(g.GroupID), g.State, g.Members)
					}
				})
			})
		},
	}
	out = outputFlags(cmd)
	return cmd
}
